// A socket receives every event by name, in an envelope, or both, as it wants.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connected, emitAck, startServer } from './harness.js';
import { alert, kpi } from './payloads.js';

const auth = { user_id: 'user_1', organization_id: 'acme' };
const received = {
  named: ['kpi:update', 'alert:triggered'],
  envelope: ['message(kpi:update)', 'message(alert:triggered)'],
  both: ['kpi:update', 'message(kpi:update)', 'alert:triggered', 'message(alert:triggered)'],
};

/** Where a client can say which forms it wants. */
const places = {
  'in the handshake': async (server, forms) => {
    const socket = server.connect({ auth: { ...auth, forms } });
    await connected(socket);
    return socket;
  },
  'in the query': async (server, forms) => {
    const socket = server.connect({ auth, query: { forms } });
    await connected(socket);
    return socket;
  },
  'with authenticate': async (server, forms) => {
    const socket = server.connect();
    await connected(socket);
    assert.equal((await emitAck(socket, 'authenticate', { ...auth, forms })).success, true);
    return socket;
  },
};

for (const [place, connect] of Object.entries(places)) {
  test(`a client that asks ${place} receives the forms it asked for`, async (t) => {
    const server = await startServer(t);
    for (const [forms, expected] of Object.entries(received)) {
      const socket = await connect(server, forms);
      if (place !== 'with authenticate') assert.equal((await socket.inbox.next('connected')).forms, forms);
      await server.reaches(1, '/broadcast/kpi', kpi('acme'));
      await server.reaches(1, '/broadcast/alert', alert('acme'));
      const last = forms === 'named' ? 'alert:triggered' : 'message';
      await socket.inbox.next(last, (argument) => last !== 'message' || argument.event === 'alert:triggered');
      // The answer stands behind whatever else was sent.
      await emitAck(socket, 'client:ping');
      assert.deepEqual(socket.inbox.catalogue(), expected, forms);
      socket.disconnect();
      await server.holds(0);
    }
  });
}

test('the config says what a client gets that does not ask', async (t) => {
  const server = await startServer(t, { config: { events: { forms: 'named' } } });
  const socket = await server.agent('acme');
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  await socket.inbox.next('kpi:update');
  await emitAck(socket, 'client:ping');
  assert.deepEqual(socket.inbox.catalogue(), ['kpi:update']);
});
