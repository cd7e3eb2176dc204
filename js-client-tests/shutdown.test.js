// A server that stops tells its clients, and lets them come back by themselves.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients, payloadOf, upgraded } from './clients.js';
import { connected, emitAck, once, request, startServer, until } from './harness.js';
import { kpi } from './payloads.js';

const auth = { user_id: 'user_1', organization_id: 'acme' };
const comesBack = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

for (const { name, options, upgrades } of clients) {
  test(`${name} is told of the end, and comes back to the next process on the same port`, async (t) => {
    const server = await startServer(t);
    const socket = server.connect({ ...options, ...comesBack });
    const upgrade = upgrades && upgraded(socket);
    await connected(socket);
    assert.equal((await emitAck(socket, 'authenticate', auth)).success, true);
    await upgrade;
    // The server has seen the end of the upgrade too, once it answers on the new transport.
    await emitAck(socket, 'client:ping');

    const ending = once(socket, 'disconnect');
    const exit = server.terminate('SIGTERM');
    const named = payloadOf(socket, await socket.inbox.nextEntry('system:maintenance'));
    assert.equal(typeof named.message, 'string');
    const envelope = await socket.inbox.next('message');
    assert.equal(envelope.event, 'system:maintenance');
    assert.deepEqual(envelope.data, named);
    assert.equal(await ending, 'transport close', 'any disconnect packet would keep the client away');
    await exit;

    const returning = once(socket, 'connect');
    const next = await startServer(t, { config: { server: { port: server.port } } });
    await returning;
    assert.equal((await emitAck(socket, 'authenticate', auth)).success, true);
    await next.reaches(1, '/broadcast/kpi', kpi('acme'));
    await socket.inbox.next('kpi:update');
  });
}

test('every namespace of a connection is told of the end', async (t) => {
  const server = await startServer(t);
  const main = await server.agent('acme');
  const scoped = server.adopt(main.io.socket('/org/acme/dept/north', { auth }));
  await connected(scoped);
  const endings = [main, scoped].map((socket) => once(socket, 'disconnect'));
  const exit = server.terminate('SIGTERM');
  for (const socket of [main, scoped]) {
    await socket.inbox.next('system:maintenance');
    assert.equal((await socket.inbox.next('message')).event, 'system:maintenance');
  }
  assert.deepEqual(await Promise.all(endings), ['transport close', 'transport close']);
  await exit;
});

test('an interrupt from the keyboard ends the server the same way', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const ending = once(socket, 'disconnect');
  const exit = server.terminate('SIGINT');
  await socket.inbox.next('system:maintenance');
  assert.equal(await ending, 'transport close');
  await exit;
});

test('a server without clients ends at once', async (t) => {
  const server = await startServer(t);
  await server.terminate('SIGTERM');
});

test('what a server publishes before it ends is delivered before its end', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const ending = once(socket, 'disconnect');
  const events = 50;
  for (let n = 0; n < events; n += 1) {
    await server.reaches(1, '/broadcast', { event: 'kpi:computed', data: { organization_id: 'acme', n } });
  }
  const exit = server.terminate('SIGTERM');
  await ending;
  await exit;
  assert.deepEqual(socket.inbox.all('kpi:computed').map(({ n }) => n), Array.from({ length: events }, (_, n) => n));
  assert.equal(socket.inbox.entries.at(-1).args[0].event, 'system:maintenance');
});

const unready = (server) => until(async () => (await request(`${server.url}/readyz`)).status === 503);

test('SIGUSR1 has a server send its clients away and end', async (t) => {
  const server = await startServer(t, { config: { server: { drain_ms: 300 } } });
  const sockets = [await server.agent('acme'), await server.agent('acme')];
  const endings = sockets.map((socket) => once(socket, 'disconnect'));
  process.kill(server.pid, 'SIGUSR1');
  assert.deepEqual(await Promise.all(endings), ['transport close', 'transport close']);
  const isThere = () => {
    try {
      return process.kill(server.pid, 0);
    } catch {
      return false;
    }
  };
  await until(() => !isThere(), () => 'the process to end by itself');
});

test('a drain goes on when the service manager asks for the end, and whoever asks twice does not wait for it', async (t) => {
  const server = await startServer(t, { config: { server: { drain_ms: 600_000 } } });
  const socket = await server.agent('acme');
  process.kill(server.pid, 'SIGUSR1');
  await unready(server);
  process.kill(server.pid, 'SIGTERM');
  // Two signals of a kind that meet on their way arrive as one.
  await server.says('another SIGTERM does not wait for that');
  assert.equal((await emitAck(socket, 'client:ping')).pong, true);
  const ending = once(socket, 'disconnect');
  await server.terminate('SIGTERM');
  assert.equal(await ending, 'transport close');
});
