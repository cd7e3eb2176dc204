// What a client meets at each limit, and that a limit frees what it held.

import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import WebSocket from 'ws';
import { clients } from './clients.js';
import { connected, emitAck, once, onceAll, request, startServer, subscribe, until, within } from './harness.js';
import { kpi } from './payloads.js';
import { assertShape } from './shape.js';

const DASHBOARD = 'http://localhost:3000';
const [polling, websocket] = [{ transports: ['polling'] }, { transports: ['websocket'] }];

for (const options of [polling, websocket]) {
  const transport = options.transports[0];

  test(`a client on ${transport} that sends too fast is refused, and heard again when it slows down`, async (t) => {
    const rate = 100;
    const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: rate } } });
    const socket = server.connect(options);
    await connected(socket);
    const burst = Array.from({ length: 2 * rate }, (_, n) => emitAck(socket, 'client:ping', { timestamp: n }));
    socket.emit('client:ping');
    const answers = await Promise.all(burst);

    assert.equal(answers[0].pong, true);
    const refused = answers.filter(({ pong }) => !pong);
    assert.ok(refused.length > 0, 'nothing was refused');
    for (const { code, message } of refused) {
      assert.equal(code, 'RATE_LIMIT_EXCEEDED');
      assert.equal(typeof message, 'string');
    }
    // The last one asked for no answer, so an event tells.
    await socket.inbox.next('error', ({ code }) => code === 'RATE_LIMIT_EXCEEDED');
    // At the pace of `until` the client keeps the limit.
    await until(async () => (await emitAck(socket, 'client:ping')).pong === true, () => 'the client to be heard again');
  });

  test(`a client on ${transport} that keeps sending too fast is cut for good`, async (t) => {
    // So that a body of polling, in which much is gathered, is not too large before the rate is over.
    const limits = { rate_limit_messages_per_second: 10, max_unauthenticated_message_bytes: 1_048_576 };
    const server = await startServer(t, { config: { limits } });
    const socket = server.connect({ ...options, reconnection: true });
    await connected(socket);
    let reason;
    const cut = once(socket, 'disconnect').then((why) => (reason = why));
    while (socket.connected && reason === undefined) {
      for (let n = 0; n < 20 && socket.connected; n += 1) socket.emit('client:ping', {});
      await Promise.race([cut, nextTurn()]);
    }
    assert.equal(await cut, 'io server disconnect');
    assert.equal(socket.active, false, 'a stock client does not come back by itself');
    await server.holds(0);
  });
}

for (const { name, eio, options } of clients) {
  test(`${name} is cut for good when it does not authenticate in time`, async (t) => {
    const server = await startServer(t, { config: { auth: { auth_timeout_ms: 500 } } });
    const socket = server.connect({ ...options, reconnection: true, reconnectionDelay: 1 });
    let attempts = 0;
    socket.io.on('reconnect_attempt', () => (attempts += 1));
    const cut = onceAll(socket, 'disconnect');
    const error = await socket.inbox.next('error');
    assertShape('error', error);
    assert.equal(error.code, 'AUTH_FAILED');
    const [reason] = await cut;
    assert.equal(reason, 'io server disconnect');
    await server.holds(0);
    assert.equal(attempts, 0);
    if (eio === 4) assert.equal(socket.connected || socket.io._reconnecting, false);
  });
}

test('a client that only pings is cut in time all the same', async (t) => {
  const server = await startServer(t, {
    config: { auth: { auth_timeout_ms: 300 }, limits: { rate_limit_messages_per_second: 1_000_000 } },
  });
  const socket = server.connect();
  const cut = once(socket, 'disconnect');
  // Each answer asks for the next ping, so the client is never silent.
  socket.on('client:pong', () => socket.emit('client:ping'));
  await connected(socket);
  socket.emit('client:ping');
  assert.equal(await cut, 'io server disconnect');
  assert.deepEqual(socket.inbox.all('error').map(({ code }) => code), ['AUTH_FAILED']);
});

test('with auth_required off a client may stay, but not take part', async (t) => {
  const server = await startServer(t, { config: { auth: { auth_required: false, auth_timeout_ms: 100 } } });
  const patient = server.connect();
  await connected(patient);
  const began = Date.now();
  // The server's own clock tells when the timeout would long have passed.
  await until(async () => Date.parse((await emitAck(patient, 'client:ping')).server_time) - began > 500);
  assert.equal(patient.connected, true);
  assert.equal((await emitAck(patient, 'subscribe', { channels: ['kpi'], organization_id: 'acme' })).code, 'UNAUTHORIZED');
  await server.reaches(0, '/broadcast/kpi', kpi('acme'));
  assert.equal((await emitAck(patient, 'authenticate', { user_id: 'user_1', organization_id: 'acme' })).success, true);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('a full server refuses handshakes with 503, readable by browsers', async (t) => {
  const server = await startServer(t, { config: { limits: { max_connections_total: 2 } } });
  await server.agent('acme', polling);
  await server.agent('acme', websocket);
  for (const eio of [3, 4]) {
    const answer = await request(`${server.url}/ws/?EIO=${eio}&transport=polling`, { headers: { origin: DASHBOARD } });
    assert.equal(answer.status, 503);
    assert.match(answer.headers['retry-after'], /^\d+$/);
    assert.equal(answer.headers['access-control-allow-origin'], DASHBOARD);
    assert.equal(answer.headers['access-control-allow-credentials'], 'true');
  }
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`);
  socket.on('error', () => {});
  const refusal = new Promise((resolve) => socket.on('unexpected-response', (_, response) => resolve(response)));
  const response = await within(refusal, () => 'the upgrade to be refused');
  assert.equal(response.statusCode, 503);
  assert.match(response.headers['retry-after'], /^\d+$/);
  socket.terminate();
  await server.holds(2);
});

for (const { name, options } of clients) {
  test(`${name} keeps trying at a full server, and gets the next free place`, async (t) => {
    const server = await startServer(t, { config: { limits: { max_connections_total: 1 } } });
    const first = await server.agent('acme', options);
    const second = server.connect({ ...options, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 50 });
    await once(second, 'connect_error');
    const connecting = once(second, 'connect');
    first.disconnect();
    await connecting;
    assert.equal((await emitAck(second, 'authenticate', { user_id: 'user_2', organization_id: 'acme' })).success, true);
    await server.holds(1);
    await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  });
}

test('an organization holds as many connections as it may, and others are not touched', async (t) => {
  const server = await startServer(t, { config: { limits: { max_connections_per_org: 2 } } });
  const first = await server.agent('acme', { user: 'user_1' });
  await server.agent('acme', { user: 'user_2' });
  const third = server.connect();
  await connected(third);
  const { socket_id } = await third.inbox.next('connected');
  const identity = { user_id: 'user_3', organization_id: 'acme' };
  const ack = await emitAck(third, 'authenticate', identity);
  assertShape('authenticate-refused', ack);
  assert.equal(ack.code, 'CONNECTION_LIMIT');
  assert.equal(ack.socket_id, socket_id);
  assert.equal((await third.inbox.next('error')).code, 'CONNECTION_LIMIT');
  await server.reaches(2, '/broadcast/kpi', kpi('acme'));
  await server.agent('globex');

  first.disconnect();
  await server.holds(1, '?organization_id=acme');
  assert.equal((await emitAck(third, 'authenticate', identity)).success, true);
  await server.reaches(2, '/broadcast/kpi', kpi('acme'));
});

test('a namespace of a full organization is refused, and its place is free when somebody leaves', async (t) => {
  const server = await startServer(t, { config: { limits: { max_connections_per_org: 1 } } });
  const first = await server.agent('acme');
  const auth = { user_id: 'user_2', organization_id: 'acme' };
  const second = server.connect({ namespace: '/org/acme', auth });
  const { message } = await once(second, 'connect_error');
  assert.match(message, /^CONNECTION_LIMIT\b/);
  first.disconnect();
  await server.holds(0);
  second.connect();
  await connected(second);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('several namespaces of one connection take one place of their organization', async (t) => {
  const server = await startServer(t, { config: { limits: { max_connections_per_org: 1 } } });
  const main = await server.agent('acme');
  const auth = { user_id: 'user_1', organization_id: 'acme' };
  for (const namespace of ['/org/acme', '/org/acme/dept/north']) await connected(server.adopt(main.io.socket(namespace, { auth })));
  await server.reaches(3, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
});

test('a full room refuses the next subscriber until somebody leaves; rooms of a scope do not count', async (t) => {
  const server = await startServer(t, { config: { limits: { room_max_size: 1 } } });
  const first = await server.subscriber('acme', { channels: ['kpi'] });
  const second = await server.agent('acme', { user: 'user_2' });
  const ack = await emitAck(second, 'subscribe', { channels: ['kpi'] });
  assertShape('subscribe-refused', ack);
  assert.equal(ack.code, 'ROOM_FULL');
  assert.equal((await second.inbox.next('error')).code, 'ROOM_FULL');
  await subscribe(second, { channels: ['kpi'], department_id: 'north' });

  assert.equal((await emitAck(first, 'unsubscribe', { channels: ['kpi'] })).success, true);
  await subscribe(second, { channels: ['kpi'] });

  const third = await server.agent('acme', { user: 'user_3' });
  assert.equal((await emitAck(third, 'subscribe', { channels: ['kpi'] })).code, 'ROOM_FULL');
  second.disconnect();
  await server.holds(2);
  await subscribe(third, { channels: ['kpi'] });
});

test('a client may hold as many subscriptions as allowed, and repeating one takes no further place', async (t) => {
  const server = await startServer(t, { config: { limits: { max_subscriptions_per_socket: 2 } } });
  const socket = await server.agent('acme');
  for (let n = 0; n < 3; n += 1) await subscribe(socket, { channels: ['kpi'], department_id: 'north' });
  await subscribe(socket, { channels: ['kpi'], department_id: 'south' });
  const ack = await emitAck(socket, 'subscribe', { channels: ['kpi'], department_id: 'west' });
  assert.equal(ack.code, 'SUBSCRIPTION_FAILED');
  assert.equal((await emitAck(socket, 'unsubscribe', { channels: ['kpi'] })).success, true);
  await subscribe(socket, { channels: ['kpi'], department_id: 'west' });
});
