// Plain clients over connections that break: nothing is missed with `since`, and nobody flickers.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connected, emitAck, startServer, subscribe } from './harness.js';
import { kpi } from './payloads.js';
import { intake, openPlain, token } from './plain.js';
import { openProxy } from './proxy.js';
import { subscribed, visit } from './frontends/dexter.js';

const who = { user_id: 'ann', organization_id: 'acme' };

async function answer(socket, event, data) {
  socket.send({ event, data });
  const { data: ack } = await socket.frames.next(`${event}:ack`);
  assert.equal(ack.success, true, JSON.stringify(ack));
  return ack;
}

/** A plain client that has logged in and listens to a queue, from `since` on. */
async function listener(server, via, since) {
  const socket = await openPlain(server, '/ws', { via });
  await answer(socket, 'authenticate', who);
  const ack = await answer(socket, 'subscribe', { channels: ['kpi'], queue_name: 'support', ...(since ? { since } : {}) });
  return { socket, ack };
}

const figure = (n) => kpi('acme', { queue_name: 'support', n });
const numbers = (socket) => socket.frames.all('kpi:update').map(({ data }) => data.n);

test('a plain client that is cut off misses nothing, with the position of its last event', async (t) => {
  const server = await startServer(t);
  const proxy = await openProxy(t, server);
  let { socket } = await listener(server, proxy);
  await server.reaches(1, '/broadcast/kpi', figure(0));
  let { position } = await socket.frames.next('kpi:update');
  let n = 1;
  for (let round = 0; round < 3; round += 1) {
    proxy.cut();
    await socket.end();
    const missed = Array.from({ length: 5 }, (_, index) => n + index);
    for (const m of missed) assert.equal((await server.publish('/broadcast/kpi', figure(m))).status, 200);
    n += missed.length;
    proxy.restore();
    const back = await listener(server, proxy, position);
    socket = back.socket;
    assert.deepEqual([back.ack.replayed, back.ack.complete], [5, true]);
    await server.reaches(1, '/broadcast/kpi', figure(n));
    ({ position } = await socket.frames.next('kpi:update', ({ data }) => data.n === n));
    assert.deepEqual(numbers(socket), [...missed, n]);
    n += 1;
  }
});

test('a position that the log does not know is admitted to be a gap', async (t) => {
  const server = await startServer(t);
  await server.publish('/broadcast/kpi', figure(1));
  const { ack } = await listener(server, server, 'nowhere.7');
  assert.equal(ack.complete, false);
});

test('`since: "last"` tells the newest figure', async (t) => {
  const server = await startServer(t);
  for (const n of [1, 2, 3]) await server.publish('/broadcast/kpi', figure(n));
  const { socket } = await listener(server, server, 'last');
  assert.equal((await socket.frames.next('kpi:update')).data.n, 3);
  assert.deepEqual(numbers(socket), [3]);
});

test('a Dexter client asks for what it missed with the position of a frame', async (t) => {
  const server = await startServer(t, { example: 'dexter' });
  const proxy = await openProxy(t, server);
  const open = () => openPlain(server, '/ws/my-tab', { via: proxy });
  let socket = await open();
  socket.send({ type: 'subscribe', channel: 'issues' });
  await socket.frames.next('subscription');
  await intake(server, '/issues/1/notify', { update_type: 'updated', data: { n: 0 } });
  const { position } = await socket.frames.next('issue_update');
  assert.equal(typeof position, 'string');
  proxy.cut();
  await socket.end();
  for (const n of [1, 2]) await intake(server, '/issues/1/notify', { update_type: 'updated', data: { n } });
  proxy.restore();
  socket = await open();
  socket.send({ type: 'subscribe', channel: 'issues', since: position });
  await socket.frames.next('subscription', ({ status }) => status === 'subscribed');
  await intake(server, '/issues/1/notify', { update_type: 'updated', data: { n: 3 } });
  await socket.frames.next('issue_update', ({ data }) => data.n === 3);
  assert.deepEqual(socket.frames.all('issue_update').map(({ data }) => data.n), [1, 2, 3]);
});

/** Who listens to presence, in Socket.IO. */
async function watcher(server) {
  const socket = await server.agent('acme', { user: 'watcher' });
  await subscribe(socket, { channels: ['presence'] });
  return socket;
}

const statuses = (socket) =>
  socket.inbox.all('presence:update').filter(({ user_id }) => user_id === 'ann').map(({ status }) => status);
const isAnn = (status) => (update) => update.user_id === 'ann' && update.status === status;

for (const [kind, open] of Object.entries({
  'a plain client': async (server, via) => {
    const socket = await openPlain(server, '/ws', { via });
    await answer(socket, 'authenticate', who);
    return { broken: socket.ended, be: (status) => socket.send({ event: 'presence', data: { status } }) };
  },
  'a Socket.IO client': async (server, via) => {
    const socket = server.connect({ url: via.url });
    await connected(socket);
    assert.equal((await emitAck(socket, 'authenticate', who)).success, true);
    const broken = new Promise((resolve) => socket.once('disconnect', resolve));
    return { broken, be: (status) => socket.emit('presence', { status }) };
  },
})) {
  test(`${kind} that breaks and comes back has been there all the time`, async (t) => {
    const server = await startServer(t, { config: { presence: { grace_ms: 60_000 } } });
    const proxy = await openProxy(t, server);
    const witness = await watcher(server);
    let client = await open(server, proxy);
    await witness.inbox.next('presence:update', isAnn('online'));
    for (let round = 0; round < 3; round += 1) {
      proxy.cut();
      await client.broken;
      await server.holds(1);
      proxy.restore();
      client = await open(server, proxy);
      await server.holds(2);
    }
    client.be('away');
    await witness.inbox.next('presence:update', isAnn('away'));
    assert.deepEqual(statuses(witness), ['online', 'away']);
  });

  test(`${kind} that breaks and stays away is told to be offline, with its last sign`, async (t) => {
    const server = await startServer(t, { config: { presence: { grace_ms: 50 } } });
    const proxy = await openProxy(t, server);
    const witness = await watcher(server);
    await open(server, proxy);
    await witness.inbox.next('presence:update', isAnn('online'));
    proxy.cut();
    const { last_seen, timestamp } = await witness.inbox.next('presence:update', isAnn('offline'));
    assert.ok(last_seen <= timestamp, `${last_seen} before ${timestamp}`);
    assert.deepEqual(statuses(witness), ['online', 'offline']);
    const { body } = await server.get('/presence?organization_id=acme');
    assert.match(JSON.stringify(body), /"watcher"/);
  });
}

test('several tabs are one user, who is there until the last one is closed', async (t) => {
  const server = await startServer(t, { example: 'dexter', environment: { TIERCAST__PRESENCE__GRACE_MS: '50' } });
  const witness = await visit(server, token({ sub: 'watcher' }), { before: (page) => (page.channels = ['presence']) });
  await subscribed(witness, 'presence');
  const tabs = [await visit(server, token({ sub: 'ann' })), await visit(server, token({ sub: 'ann' }))];
  await witness.frames.next('presence_update', isAnn('online'));
  tabs[0].disconnect();
  await server.holds(2);
  tabs[1].updatePresence('busy');
  await witness.frames.next('presence_update', isAnn('busy'));
  tabs[1].disconnect();
  await witness.frames.next('presence_update', isAnn('offline'));
  const told = witness.frames.all('presence_update').filter(({ user_id }) => user_id === 'ann');
  assert.deepEqual(told.map(({ status }) => status), ['online', 'busy', 'offline']);
});
