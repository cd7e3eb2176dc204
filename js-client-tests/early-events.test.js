// Events sent in the same tick as CONNECT: a client does not wait for the server to be ready.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients } from './clients.js';
import { emitAck, startServer, within } from './harness.js';
import { kpi } from './payloads.js';

const CLIENTS = 200;
const DEADLINE_MS = 60_000;

const config = {
  limits: { max_connections_total: 1_000, max_connections_per_org: 1_000, rate_limit_messages_per_second: 1_000 },
};

/** What every client sends at once; the second needs the first, so their order shows too. */
function greet(socket, index) {
  return Promise.all([
    emitAck(socket, 'authenticate', { user_id: `user_${index}`, organization_id: 'acme' }, DEADLINE_MS),
    emitAck(socket, 'subscribe', { channels: ['kpi'] }, DEADLINE_MS),
    emitAck(socket, 'client:ping', { timestamp: index }, DEADLINE_MS),
  ]);
}

const moments = {
  'before it is connected': (socket, index) => greet(socket, index),
  'in its connect handler': (socket, index) =>
    within(
      new Promise((resolve, reject) => socket.once('connect', () => greet(socket, index).then(resolve, reject))),
      () => `client ${index} to connect and be answered`,
      DEADLINE_MS,
    ),
};

for (const { name, options } of clients) {
  for (const [moment, greetAt] of Object.entries(moments)) {
    test(`${CLIENTS} times ${name}, speaking ${moment}: nothing is lost`, async (t) => {
      const server = await startServer(t, { config });
      const sockets = Array.from({ length: CLIENTS }, () => server.connect(options));
      const answers = await Promise.all(sockets.map(greetAt));
      answers.forEach(([authenticated, subscribed, pong], index) => {
        assert.equal(authenticated.success, true, JSON.stringify(authenticated));
        assert.equal(authenticated.user_id, `user_${index}`);
        assert.deepEqual(subscribed.rooms, ['kpi:org:acme'], JSON.stringify(subscribed));
        assert.equal(pong.timestamp, index);
      });
      await server.reaches(CLIENTS, '/broadcast/kpi', kpi('acme'));
      await Promise.all(sockets.map((socket) => socket.inbox.next('message')));
      for (const { inbox } of sockets) assert.deepEqual(inbox.catalogue(), ['kpi:update', 'message(kpi:update)']);
    });
  }
}

test('an event sent with the CONNECT of a namespace is not lost', async (t) => {
  const server = await startServer(t, { config });
  const sockets = Array.from({ length: CLIENTS }, (_, index) =>
    server.connect({ namespace: '/org/acme', auth: { user_id: `user_${index}`, organization_id: 'acme' } }),
  );
  const pongs = await Promise.all(
    sockets.map((socket, index) => emitAck(socket, 'client:ping', { timestamp: index }, DEADLINE_MS)),
  );
  assert.deepEqual(pongs.map(({ timestamp }) => timestamp), sockets.map((_, index) => index));
  await server.reaches(CLIENTS, '/broadcast/kpi', kpi('acme'));
});
