// Bad input gets the contract's error; the socket and the server stay.

import assert from 'node:assert/strict';
import { once as opened } from 'node:events';
import test from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import WebSocket from 'ws';
import { emitAck, once, startServer, within } from './harness.js';
import { kpi } from './payloads.js';
import { assertShape } from './shape.js';

/** Deeper than parsers follow, and no deeper than the client itself can write. */
const DEEP = 2_000;
const nested = (depth) => JSON.parse('['.repeat(depth) + ']'.repeat(depth));

/** Sends each payload and expects a refusal with one of the codes; the socket must then still work. */
async function refuses(socket, event, payloads, codes = ['INVALID_MESSAGE']) {
  for (const payload of payloads) {
    const what = `${event} ${JSON.stringify(payload)?.slice(0, 100)}`;
    const ack = await emitAck(socket, event, payload);
    assert.equal(ack.success, false, what);
    assert.ok(codes.includes(ack.code), `${what}: ${ack.code}`);
    assert.equal(typeof ack.message, 'string', what);
    const error = await socket.inbox.next('error');
    assertShape('error', error);
    assert.ok(codes.includes(error.code), `${what}: ${error.code}`);
  }
  assert.equal((await emitAck(socket, 'client:ping', {})).pong, true);
}

const LONG = 'x'.repeat(10_000);

test('an `authenticate` of the wrong shape is refused, and a good one still works', async (t) => {
  const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: 1_000 } } });
  const socket = server.connect();
  await once(socket, 'connected');
  const id = { user_id: 'user_1', organization_id: 'acme' };
  const wrong = [
    undefined,
    null,
    'acme',
    42,
    [],
    {},
    { user_id: 'user_1' },
    { organization_id: 'acme' },
    { ...id, user_id: '' },
    { ...id, user_id: 7 },
    { ...id, organization_id: { $ne: null } },
    { ...id, organization_id: ['acme'] },
    { ...id, organization_id: LONG },
    { ...id, user_id: 'line\nbreak' },
    { ...id, organization_id: 'nul\u0000' },
    { ...id, forms: 'semaphore' },
  ];
  await refuses(socket, 'authenticate', wrong, ['INVALID_MESSAGE', 'AUTH_FAILED']);
  assert.equal((await emitAck(socket, 'authenticate', id)).success, true);
});

test('a `subscribe` of the wrong shape is refused', async (t) => {
  const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: 1_000 } } });
  const socket = await server.agent('acme');
  const wrong = [
    undefined,
    null,
    'kpi',
    ['kpi'],
    {},
    { channels: 'kpi' },
    { channels: [1] },
    { channels: [null] },
    { channels: ['unheard-of'] },
    { channels: ['kpi'], department_id: 7 },
    { channels: ['kpi'], department_id: '' },
    { channels: ['kpi'], queue_name: LONG },
    { channels: ['kpi'], queue_name: 'bell\u0007' },
    { channels: ['kpi'], filters: { min_severity: 'terrible' } },
    { channels: ['kpi'], filters: { sources: 'kpi' } },
    { channels: [LONG] },
    { channels: nested(DEEP) },
  ];
  await refuses(socket, 'subscribe', wrong);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('an event that nobody knows is refused, whatever it carries', async (t) => {
  const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: 1_000 } } });
  const socket = await server.agent('acme');
  for (const event of ['unheard-of', 'kpi:update', 'constructor', '__proto__', '', LONG, 'subscribe ']) {
    await refuses(socket, event, [undefined, {}, nested(DEEP)]);
  }
  // Without an ack there is still the event `error`.
  socket.emit('unheard-of', 1, 2, 3);
  assert.equal((await socket.inbox.next('error')).code, 'INVALID_MESSAGE');
  assert.equal((await emitAck(socket, 'client:ping')).pong, true);
});

test('deep JSON is refused or passed on, never fatal', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const ack = await emitAck(socket, 'subscribe', { channels: ['kpi'], filters: { sources: nested(DEEP) } });
  assert.equal(ack.code, 'INVALID_MESSAGE');
  for (const depth of [DEEP, 100_000]) {
    const deep = '['.repeat(depth) + ']'.repeat(depth);
    // Not passed on to the client, whose own parser would give up on it.
    const { status } = await server.publish('/broadcast/kpi', `{"organization_id":"elsewhere","deep":${deep}}`);
    assert.ok([200, 400].includes(status), `depth ${depth}: ${status}`);
  }
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  await socket.inbox.next('message');
});

test('an ack that never comes, comes twice or belongs to nothing changes nothing', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  socket.emit('ack', { message_id: 'msg_1705314600000_abcdefghi' });
  const published = await server.publish('/broadcast', { event: 'alert:triggered', data: { organization_id: 'acme' }, requires_ack: true, ack_timeout_ms: 50 });
  assert.equal(published.status, 200);
  const { message_id } = await socket.inbox.next('message');
  for (let n = 0; n < 3; n += 1) socket.emit('ack', { message_id, received_at: new Date().toISOString() });
  assert.equal((await emitAck(socket, 'client:ping')).pong, true);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

/** Raw packets, as no official client would send them. */
async function rawSocket(server) {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`);
  // A cut while something is still being sent is what some of these tests provoke.
  socket.on('error', () => {});
  const waiting = [];
  const arrived = [];
  socket.on('message', (bytes) => {
    const text = bytes.toString();
    if (text === '2') return socket.send('3');
    const waiter = waiting.shift();
    if (waiter) waiter(text);
    else arrived.push(text);
  });
  socket.next = () => within(arrived.length ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve)), () => 'a packet');
  await within(opened(socket, 'open'), () => 'a WebSocket');
  assert.match(await socket.next(), /^0\{/);
  return socket;
}

test('thousands of CONNECTs on one connection neither stop the server nor fill it', async (t) => {
  const server = await startServer(t);
  const bystander = await server.agent('acme');
  const socket = await rawSocket(server);
  t.after(() => socket.terminate());
  for (let n = 0; n < 5_000; n += 1) {
    socket.send(`40/org/acme_${n},`);
    socket.send(`40/org/acme_${n},{"user_id":"u","organization_id":"acme_${n}"}`);
    if (n % 500 === 0) await nextTurn();
  }
  assert.equal((await emitAck(bystander, 'client:ping')).pong, true);
  socket.terminate();
  await server.holds(1);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('packets that make no sense cost only their sender', async (t) => {
  const server = await startServer(t);
  const bystander = await server.agent('acme');
  const packets = ['', '4', '9', '4x', '49', '42', '42[', '42{}', '42[]', '42[null]', '42[1]', '430', '4399999999999999999999[]', '451-["x",{"_placeholder":true,"num":7}]', '45999999999-["x"]', '41/nowhere,', '42/nowhere,["x"]', '40{', '40[]', '40"x"', '44"x"', Buffer.from([1, 2, 3])];
  for (const packet of packets) {
    const socket = await rawSocket(server);
    socket.send('40');
    await socket.next();
    socket.send(packet);
    socket.send('42["client:ping"]');
    socket.close();
  }
  await server.holds(1);
  assert.equal((await emitAck(bystander, 'client:ping')).pong, true);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});
