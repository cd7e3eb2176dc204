// `@socket.io/redis-emitter`, as other services use it, on a Redis of the test's own.

import assert from 'node:assert/strict';
import test from 'node:test';
import redisEmitter from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { startRedis } from './cluster.js';
import { connected, startServer, subscribe, until } from './harness.js';

const { Emitter } = redisEmitter;

/** A node that listens for emitters; its emitter, with `emitted`, which tells that everything before has come. */
async function start(t, { key } = {}) {
  const nodes = [];
  const url = await startRedis(t, nodes);
  const client = createClient({ url, socket: { reconnectStrategy: false } });
  // Redis goes before its client.
  client.on('error', () => {});
  t.after(() => client.isOpen && client.destroy());
  await client.connect();
  const cluster = { redis_urls: [url], emitter: true, heartbeat_ms: 100, node_timeout_ms: 1_000 };
  if (key) cluster.emitter_key = key;
  const server = await startServer(t, { config: { log: { store: 'redis' }, cluster } });
  nodes.push(server);
  await until(async () => (await client.pubSubNumPat()) === 2, () => 'the node to listen');
  await until(async () => (await server.get('/nodes')).body.nodes[0]?.leader, () => 'the node to lead');
  return { server, client, emitter: new Emitter(client, key ? { key } : {}) };
}

const names = (socket) => socket.inbox.all('kpi:update').map(({ n }) => n);

test('rooms, users and namespaces are reached by the emitter as by the API', async (t) => {
  const { server, emitter } = await start(t);
  const kpis = await server.subscriber('acme', { channels: ['kpi'] }, { user: 'ann' });
  const user = await server.agent('acme', { user: 'bob' });
  const other = await server.agent('other', { user: 'bob' });
  const auth = { user_id: 'cid', organization_id: 'acme' };
  const member = server.connect({ namespace: '/org/acme/dept/north', auth });
  await connected(member);

  emitter.to('kpi:org:acme').emit('kpi:update', { n: 1 });
  emitter.to('user:acme:bob').emit('kpi:update', { n: 2 });
  emitter.of('/org/acme/dept/north').emit('kpi:update', { n: 3 });
  emitter.to(['kpi:org:acme', 'user:acme:bob', 'user:other:bob']).emit('kpi:update', { n: 4 });
  emitter.to('org:acme').except(user.publicId).emit('kpi:update', { n: 5 });
  emitter.of('/org/acme').to(kpis.publicId).emit('kpi:update', { n: 6 });
  emitter.to('org:acme').volatile.emit('kpi:update', { n: 7, at: new Date(0), none: undefined, half: 0.5 });
  // What matters less may be overtaken by what follows.
  for (const socket of [kpis, user, member]) await socket.inbox.next('message', ({ data }) => data.n === 7);
  emitter.emit('system:broadcast', { n: 'last' });

  const sockets = { kpis, user, other, member };
  for (const socket of Object.values(sockets)) {
    await socket.inbox.next('system:broadcast', ({ n }) => n === 'last');
  }
  const received = Object.fromEntries(Object.entries(sockets).map(([name, socket]) => [name, names(socket)]));
  // Who has not asked for channels receives what happens in the organization; a room reaches those in it.
  assert.deepEqual(received, { kpis: [1, 3, 4, 5, 6, 7], user: [2, 3, 4, 7], other: [4], member: [3, 5, 7] });
  const [, payload] = user.inbox.all('kpi:update').slice(-2);
  assert.deepEqual(payload, { n: 7, at: '1970-01-01T00:00:00.000Z', half: 0.5 });
  const priorities = user.inbox.all('message').map(({ data, priority }) => [data.n, priority]);
  assert.deepEqual(priorities, [[2, 'medium'], [3, 'medium'], [4, 'medium'], [7, 'low'], ['last', 'medium']]);
});

test('what cannot be meant is refused, and the log says why', async (t) => {
  const { server, emitter } = await start(t);
  const agent = await server.agent('acme');
  emitter.to('lobby').emit('kpi:update', { n: 1 });
  emitter.emit('kpi:update', { n: 2 });
  emitter.to('org:acme').emit('no:such', { n: 3 });
  emitter.to('org:acme').except('user:acme:user_1').emit('kpi:update', { n: 4 });
  emitter.to('org:acme').emit('kpi:update', { n: 5 }, 'more');
  emitter.to('org:acme').emit('kpi:update', Buffer.from('binary'));
  emitter.of('/chat').to('org:acme').emit('kpi:update', { n: 7 });
  emitter.to('org:acme').disconnectSockets(true);
  emitter.to('org:acme').emit('kpi:update', { n: 'last' });
  await agent.inbox.next('kpi:update', ({ n }) => n === 'last');
  assert.deepEqual(names(agent), ['last']);
  const refusals = () => server.output().split('\n').filter((line) => line.includes('what an emitter sent is refused'));
  await until(() => refusals().length === 8, () => `8 refusals; there are\n${refusals().join('\n')}`);
});

test('the key is configured on both sides', async (t) => {
  const { server, emitter, client } = await start(t, { key: 'my*[app]' });
  const agent = await server.subscriber('acme', { channels: ['kpi'] });
  new Emitter(client).to('org:acme').emit('kpi:update', { n: 1 });
  new Emitter(client, { key: 'my-other-app' }).to('org:acme').emit('kpi:update', { n: 2 });
  emitter.to('org:acme').emit('kpi:update', { n: 3 });
  await agent.inbox.next('kpi:update', ({ n }) => n === 3);
  assert.deepEqual(names(agent), [3]);
});
