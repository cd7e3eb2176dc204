// Connection state recovery as stock clients do it, over connections that break.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { clients, transportOf } from './clients.js';
import { connected, emitAck, once, startServer, subscribe, until } from './harness.js';
import { kpi } from './payloads.js';
import { openProxy } from './proxy.js';

const recovering = clients.filter(({ name }) => name.includes('4.8'));
const older = clients.filter(({ name }) => !name.includes('4.8'));

const reconnecting = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50, reconnectionAttempts: 1_000 };

/** A client behind a proxy that has joined a queue and received the first event there. */
async function joined(t, server, options) {
  const proxy = await openProxy(t, server);
  const socket = server.connect({ url: proxy.url, ...reconnecting, ...options });
  await connected(socket);
  const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
  assert.equal(ack.success, true);
  socket.publicId = ack.socket_id;
  await subscribe(socket, { channels: ['kpi'], queue_name: 'support' });
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { queue_name: 'support', n: 0 }));
  await socket.inbox.next('kpi:update', ({ n }) => n === 0);
  return { proxy, socket };
}

const publish = (server, n) => server.publish('/broadcast/kpi', kpi('acme', { queue_name: 'support', n }));
const numbers = (socket) => socket.inbox.all('kpi:update').map(({ n }) => n);

for (const { name, options } of recovering) {
  test(`${name} misses nothing over a broken connection, and is who it was`, async (t) => {
    const server = await startServer(t);
    const { proxy, socket } = await joined(t, server, options);
    const { id } = socket;

    let n = 1;
    for (let round = 0; round < 3; round += 1) {
      const lost = once(socket, 'disconnect');
      proxy.cut();
      await lost;
      for (const end = n + 5; n < end; n += 1) assert.equal((await publish(server, n)).status, 200);
      const back = once(socket, 'connect');
      proxy.restore();
      await back;
      assert.equal(socket.recovered, true, 'recovered');
      assert.equal(socket.id, id);
      assert.equal((await publish(server, n)).status, 200);
      await socket.inbox.next('kpi:update', (event) => event.n === n);
      n += 1;
    }
    assert.deepEqual(numbers(socket), Array.from({ length: n }, (_, index) => index));
    assert.deepEqual(
      socket.inbox.all('connected').map(({ recovered }) => recovered),
      [false, true, true, true],
    );
    await server.holds(1);
  });

  test(`${name} recovers every namespace of its connection`, async (t) => {
    const server = await startServer(t);
    const { proxy, socket } = await joined(t, server, options);
    const auth = { user_id: 'user_1', organization_id: 'acme', channels: ['kpi'] };
    const scoped = server.adopt(socket.io.socket('/org/acme/queue/support', { auth }));
    await connected(scoped);
    await server.reaches(2, '/broadcast/kpi', kpi('acme', { queue_name: 'support', n: 1 }));
    await scoped.inbox.next('kpi:update');

    const lost = Promise.all([once(socket, 'disconnect'), once(scoped, 'disconnect')]);
    proxy.cut();
    await lost;
    for (let n = 2; n < 6; n += 1) await publish(server, n);
    const back = Promise.all([once(socket, 'connect'), once(scoped, 'connect')]);
    proxy.restore();
    await back;
    assert.deepEqual([socket.recovered, scoped.recovered], [true, true]);
    await server.reaches(2, '/broadcast/kpi', kpi('acme', { queue_name: 'support', n: 6 }));
    for (const one of [socket, scoped]) await one.inbox.next('kpi:update', ({ n }) => n === 6);
    assert.deepEqual(numbers(socket), [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(numbers(scoped), [1, 2, 3, 4, 5, 6]);
  });

  test(`${name} begins anew when its time is over`, async (t) => {
    const server = await startServer(t, { config: { recovery: { max_disconnection_ms: 1 } } });
    const { proxy, socket } = await joined(t, server, options);
    const { id } = socket;
    const lost = once(socket, 'disconnect');
    proxy.cut();
    await lost;
    // On polling the server learns of it from the client that comes back.
    if (transportOf(socket) !== 'polling') await server.holds(0);
    await publish(server, 1);
    const back = once(socket, 'connect');
    proxy.restore();
    await back;
    if (socket.recovered) assert.equal(options.transports[0], 'polling', 'the session was over');
    else assert.notEqual(socket.id, id);
  });
}

for (const { name, options } of older) {
  test(`${name} comes back as somebody new`, async (t) => {
    const server = await startServer(t);
    const { proxy, socket } = await joined(t, server, options);
    const before = socket.publicId;
    const lost = once(socket, 'disconnect');
    proxy.cut();
    await lost;
    await publish(server, 1);
    const back = once(socket, 'connect');
    proxy.restore();
    await back;
    const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
    assert.notEqual(ack.socket_id, before);
    await subscribe(socket, { channels: ['kpi'], queue_name: 'support' });
    await publish(server, 2);
    await socket.inbox.next('kpi:update', ({ n }) => n === 2);
    assert.deepEqual(numbers(socket), [0, 2]);
  });
}

test('a hundred clients whose connections keep breaking receive everything once, in order', async (t) => {
  const CLIENTS = 100;
  const EVENTS = 60;
  const CUTS = 6;
  const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: 10_000 } } });
  const proxies = await Promise.all(Array.from({ length: 10 }, () => openProxy(t, server)));
  const sockets = await Promise.all(
    Array.from({ length: CLIENTS }, async (_, index) => {
      const { options } = recovering[index % recovering.length];
      const socket = server.connect({ url: proxies[index % proxies.length].url, ...reconnecting, ...options });
      await connected(socket);
      await emitAck(socket, 'authenticate', { user_id: `user_${index}`, organization_id: 'acme' });
      await subscribe(socket, { channels: ['kpi'] });
      return socket;
    }),
  );
  await server.reaches(CLIENTS, '/broadcast/kpi', kpi('acme', { n: 0 }));
  await Promise.all(sockets.map((socket) => socket.inbox.next('kpi:update', ({ n }) => n === 0)));

  for (let n = 1; n < EVENTS; n += 1) {
    assert.equal((await server.publish('/broadcast/kpi', kpi('acme', { n }))).status, 200);
    if (n % (EVENTS / CUTS) !== 0) continue;
    const cut = proxies.filter((_, index) => index % 2 === (n / (EVENTS / CUTS)) % 2);
    for (const proxy of cut) proxy.cut();
    assert.equal((await server.publish('/broadcast/kpi', kpi('acme', { n: (n += 1) }))).status, 200);
    for (const proxy of cut) proxy.restore();
  }
  const last = EVENTS - 1;
  const all = Array.from({ length: EVENTS }, (_, n) => n);
  await until(
    () => sockets.every((socket) => numbers(socket).at(-1) === last),
    () => `all to receive ${last}; they have ${JSON.stringify(sockets.map((socket) => numbers(socket).at(-1)))}`,
    60_000,
  );
  for (const socket of sockets) assert.deepEqual(numbers(socket), all);
});

test('a hundred clients go on in the next process where they were in the last', async (t) => {
  const CLIENTS = 100;
  const folder = await mkdtemp(path.join(tmpdir(), 'tiercast-log-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const limits = { rate_limit_messages_per_second: 10_000 };
  const log = { path: path.join(folder, 'data') };
  const server = await startServer(t, { config: { limits, log } });
  const sockets = await Promise.all(
    Array.from({ length: CLIENTS }, async (_, index) => {
      const { options } = recovering[index % recovering.length];
      const socket = server.connect({ ...reconnecting, ...options });
      await connected(socket);
      await emitAck(socket, 'authenticate', { user_id: `user_${index}`, organization_id: 'acme' });
      await subscribe(socket, { channels: ['kpi'] });
      return socket;
    }),
  );
  const ids = sockets.map((socket) => socket.id);
  for (let n = 0; n < 20; n += 1) await server.reaches(CLIENTS, '/broadcast/kpi', kpi('acme', { n }));
  await Promise.all(sockets.map((socket) => socket.inbox.next('kpi:update')));

  const back = sockets.map((socket) => once(socket, 'connect', 60_000));
  await server.terminate('SIGTERM');
  const next = await startServer(t, { config: { limits, log, server: { port: server.port } } });
  for (let n = 20; n < 40; n += 1) assert.equal((await next.publish('/broadcast/kpi', kpi('acme', { n }))).status, 200);
  await Promise.all(back);
  assert.deepEqual(sockets.map(({ recovered }) => recovered), sockets.map(() => true));
  assert.deepEqual(sockets.map(({ id }) => id), ids);
  await next.reaches(CLIENTS, '/broadcast/kpi', kpi('acme', { n: 40 }));
  await Promise.all(sockets.map((socket) => socket.inbox.next('kpi:update', ({ n }) => n === 40)));
  for (const socket of sockets) assert.deepEqual(numbers(socket), Array.from({ length: 41 }, (_, n) => n));
});
