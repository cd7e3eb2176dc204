// Users who are away, and what they have to acknowledge, with every generation of the official client.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients } from './clients.js';
import { connected, emitAck, startServer, until } from './harness.js';

const notice = (n) => ({
  event: 'system:notification',
  data: { n },
  target: { organization_id: 'acme', user_ids: ['ann'] },
});
const alarm = (n) => ({ ...notice(n), event: 'alert:triggered', requires_ack: true, ack_timeout_ms: 60_000 });
const numbers = (socket, event) => socket.inbox.all(event).map(({ n }) => n);

for (const { name, options } of clients) {
  test(`${name} is told what was for its user while it was away`, async (t) => {
    const server = await startServer(t);
    for (const n of [1, 2]) await server.reaches(0, '/broadcast', notice(n));
    const alarmed = await server.reaches(0, '/broadcast', alarm(3));
    const socket = await server.agent('acme', { user: 'ann', ...options });
    await server.reaches(1, '/broadcast', notice(4));
    await socket.inbox.next('system:notification', ({ n }) => n === 4);
    assert.deepEqual(numbers(socket, 'system:notification'), [1, 2, 4]);
    assert.deepEqual(numbers(socket, 'alert:triggered'), [3]);
    socket.disconnect();
    await server.holds(0);

    // It comes again, since nobody has acknowledged it, and the others do not.
    const acknowledging = server.connect(options);
    acknowledging.on('alert:triggered', (data, ack) => ack({ status: 'seen' }));
    await connected(acknowledging);
    await emitAck(acknowledging, 'authenticate', { user_id: 'ann', organization_id: 'acme' });
    await acknowledging.inbox.next('alert:triggered');
    const receipts = async () => (await server.get(`/messages/${alarmed.message_id}/receipts`)).body;
    await until(async () => (await receipts()).acknowledged.length === 1);
    const [{ user_id, state }] = (await receipts()).acknowledged;
    assert.deepEqual({ user_id, state }, { user_id: 'ann', state: 'acknowledged' });
    acknowledging.disconnect();
    await server.holds(0);

    const last = await server.agent('acme', { user: 'ann', ...options });
    await server.reaches(1, '/broadcast', notice(5));
    await last.inbox.next('system:notification', ({ n }) => n === 5);
    assert.deepEqual(numbers(last, 'system:notification'), [5]);
    assert.deepEqual(numbers(last, 'alert:triggered'), []);
    assert.deepEqual(numbers(acknowledging, 'system:notification'), []);
  });
}

test('a dashboard with a session id of its own is subscribed as before', async (t) => {
  const server = await startServer(t);
  const authenticate = (socket) =>
    emitAck(socket, 'authenticate', { user_id: 'ann', organization_id: 'acme', session_id: 'tab 1' });
  const first = server.connect();
  await connected(first);
  await authenticate(first);
  const { subscription_id } = await emitAck(first, 'subscribe', { channels: ['kpi'], queue_name: 'support' });
  first.disconnect();
  await server.holds(0);
  const second = server.connect();
  await connected(second);
  assert.deepEqual((await authenticate(second)).restored_subscriptions, [subscription_id]);
  await server.reaches(1, '/broadcast/kpi', { organization_id: 'acme', queue_name: 'support' });
  await server.reaches(0, '/broadcast/kpi', { organization_id: 'acme' });
});
