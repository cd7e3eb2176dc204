// The events of one client are handled one after another, in the order sent.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients } from './clients.js';
import { emitAck, startServer, within } from './harness.js';

const EVENTS = 20_000;
const DEADLINE_MS = 120_000;

const config = {
  limits: { rate_limit_messages_per_second: 1_000_000, max_queued_events: 100_000 },
  // A client on polling cannot take 20,000 answers before its next request.
  outbox: { polling_queue_packets: 100_000 },
};

for (const { name, options } of clients) {
  test(`${EVENTS} events of ${name} are answered in the order sent`, async (t) => {
    const server = await startServer(t, { config });
    const socket = await server.agent('acme', options);
    const answered = [];
    const all = new Promise((resolve) => {
      for (let n = 0; n < EVENTS; n += 1) {
        socket.emit('client:ping', { timestamp: n }, (pong) => answered.push(pong) === EVENTS && resolve());
      }
    });
    await within(all, () => `${EVENTS} answers; ${answered.length} came`, DEADLINE_MS);
    const outOfOrder = answered.findIndex(({ pong, timestamp }, n) => !pong || timestamp !== n);
    assert.equal(outOfOrder, -1, `answer ${outOfOrder} is ${JSON.stringify(answered[outOfOrder])}`);
  });
}

test('subscribing and unsubscribing in turns always finds what came before it', async (t) => {
  const server = await startServer(t, { config });
  const socket = await server.agent('acme');
  const turns = 2_000;
  const channel = (n) => ({ channels: ['kpi'], queue_name: `queue_${n}` });
  const answers = await Promise.all(
    Array.from({ length: turns }, (_, n) => [
      emitAck(socket, 'subscribe', channel(n), DEADLINE_MS),
      emitAck(socket, 'unsubscribe', { channels: ['kpi'] }, DEADLINE_MS),
    ]).flat(),
  );
  const refused = answers.find(({ success }) => !success);
  assert.equal(refused, undefined, JSON.stringify(refused));
  // Nothing is left, so the next one is refused.
  assert.equal((await emitAck(socket, 'unsubscribe', { channels: ['kpi'] })).code, 'ROOM_NOT_FOUND');
});
