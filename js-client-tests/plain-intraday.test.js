// Socket.IO's events over a plain WebSocket: the document's lines in a terminal, and programs.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connected, emitAck, startServer, until } from './harness.js';
import { ISO, MESSAGE_ID, POSITION, SUBSCRIPTION_ID, documentsKpi, kpi } from './payloads.js';
import { openPlain, refusal, wsUrl } from './plain.js';
import { openTerminal } from './terminal.js';

const start = (t, options) => startServer(t, { example: 'intraday', ...options });

/** Asks, with an id, and returns what is answered. */
async function ask(socket, event, data) {
  socket.asked = (socket.asked ?? 0) + 1;
  const id = socket.asked;
  socket.send({ event, data, id });
  return (await socket.frames.next(`${event}:ack`, (frame) => frame.id === id)).data;
}

/** A plain client that is authenticated. */
async function agent(server, organization_id, { user = 'user_1', path = '/ws', ...options } = {}) {
  const socket = await openPlain(server, path, options);
  const ack = await ask(socket, 'authenticate', { user_id: user, organization_id });
  assert.equal(ack.success, true, JSON.stringify(ack));
  socket.publicId = ack.socket_id;
  return socket;
}

for (const path of ['/ws', '/ws/']) {
  test(`wscat runs the lines of the document at ${path}`, async (t) => {
    const server = await start(t);
    const terminal = openTerminal(t, 'wscat', '-c', wsUrl(server, path));
    const [, hello] = await terminal.shows(/< (\{"event":"connected".*\})/);
    const { socket_id, server_time } = JSON.parse(hello).data;
    assert.match(server_time, ISO);

    terminal.type('{"event":"authenticate","data":{"user_id":"user_123","organization_id":"org_123"}}');
    const [, authenticated] = await terminal.shows(/< (\{"event":"authenticate:ack".*\})/);
    const ack = JSON.parse(authenticated).data;
    assert.deepEqual([ack.success, ack.socket_id, ack.user_id, ack.organization_id], [true, socket_id, 'user_123', 'org_123']);

    terminal.type('{"event":"subscribe","data":{"channels":["kpi"],"organization_id":"org_123"}}');
    const [, subscribed] = await terminal.shows(/< (\{"event":"subscribe:ack".*\})/);
    const { success, subscribed_channels, subscription_id, rooms } = JSON.parse(subscribed).data;
    assert.deepEqual([success, subscribed_channels, rooms], [true, ['kpi'], ['kpi:org:org_123']]);
    assert.match(subscription_id, SUBSCRIPTION_ID);

    terminal.type('{"event":"client:ping"}');
    const [, pong] = await terminal.shows(/< (\{"event":"client:ping:ack".*\})/);
    assert.equal(JSON.parse(pong).data.pong, true);

    const { message_id } = await server.reaches(1, '/broadcast/kpi', documentsKpi);
    const [, shown] = await terminal.shows(/< (\{.*"event":"kpi:update".*\})/);
    const envelope = JSON.parse(shown);
    assert.deepEqual(envelope.data, documentsKpi);
    assert.equal(envelope.message_id, message_id);
  });
}

test('one publication reaches a Socket.IO client, a polling client and a plain one, each in its form', async (t) => {
  const server = await start(t);
  const websocket = await server.agent('acme', { user: 'u1' });
  const polling = await server.agent('acme', { user: 'u2', transports: ['polling'] });
  const plain = await agent(server, 'acme', { user: 'u3' });
  const elsewhere = await agent(server, 'globex');
  const payload = kpi('acme', { department_id: 'd1', queue_name: 'support', note: '"Zoë"\u2028</script>' });
  const { message_id, position } = await server.reaches(3, '/broadcast/kpi', payload);
  assert.match(message_id, MESSAGE_ID);
  assert.match(position, POSITION);
  for (const socket of [websocket, polling]) {
    assert.deepEqual(await socket.inbox.next('kpi:update'), payload);
    const envelope = await socket.inbox.next('message');
    assert.deepEqual([envelope.message_id, envelope.data], [message_id, payload]);
  }
  const { data, timestamp, position: told, ...envelope } = await plain.frames.next('kpi:update');
  assert.deepEqual(data, payload);
  assert.match(timestamp, ISO);
  assert.ok(told.startsWith(position), `${told} is a position of ${position}`);
  assert.deepEqual(envelope, {
    message_id,
    event: 'kpi:update',
    organization_id: 'acme',
    department_id: 'd1',
    queue_name: 'support',
    priority: 'medium',
  });
  assert.deepEqual(plain.frames.all('kpi:update').length, 1, 'in one form');
  await ask(elsewhere, 'client:ping');
  assert.deepEqual(elsewhere.frames.all('kpi:update'), []);
});

test('a plain client does what a Socket.IO client does', async (t) => {
  const server = await start(t);
  const socket = await agent(server, 'acme');
  const { subscription_id } = await ask(socket, 'subscribe', { channels: ['kpi'], queue_name: 'support' });
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { queue_name: 'support', n: 1 }));
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { queue_name: 'sales', n: 2 }));
  assert.equal((await socket.frames.next('kpi:update')).data.n, 1);
  assert.equal((await ask(socket, 'unsubscribe', { subscription_id })).success, true);
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { queue_name: 'support', n: 3 }));

  const refused = await ask(socket, 'subscribe', { channels: ['kpi'], organization_id: 'globex' });
  assert.deepEqual([refused.success, refused.code], [false, 'UNAUTHORIZED']);
  const error = await socket.frames.next('error');
  assert.deepEqual([error.data.code, typeof error.data.message], ['UNAUTHORIZED', 'string']);

  const listed = (await server.get(`/connections/${socket.publicId}`)).body.connection;
  assert.deepEqual([listed.user_id, listed.organization_id, listed.transport], ['user_1', 'acme', 'websocket']);
  socket.ws.close();
  await server.holds(0);
});

test('what requires an acknowledgement is acknowledged by a frame', async (t) => {
  const server = await start(t);
  const socket = await agent(server, 'acme', { user: 'ann' });
  const { message_id } = await server.reaches(1, '/broadcast', {
    event: 'alert:triggered',
    data: { organization_id: 'acme', alert_id: 'a1' },
    requires_ack: true,
    ack_timeout_ms: 60_000,
  });
  const envelope = await socket.frames.next('alert:triggered');
  assert.deepEqual([envelope.message_id, envelope.requires_ack], [message_id, true]);
  socket.send({ event: 'ack', data: { message_id, received_at: new Date().toISOString() } });
  const receipts = async () => (await server.get(`/messages/${message_id}/receipts`)).body;
  await until(async () => (await receipts()).acknowledged.length === 1);
  assert.equal((await receipts()).acknowledged[0].user_id, 'ann');
});

test('a client that asks for batches gets what comes together in one frame, and urgent events at once', async (t) => {
  const server = await start(t);
  const socket = await agent(server, 'acme');
  const ack = await ask(socket, 'subscribe', { channels: ['kpi', 'alerts'], batch_ms: 100 });
  assert.equal(ack.success, true, JSON.stringify(ack));
  // Figures of queues of their own, for a newer one of the same would take an older one's place.
  const figures = Array.from({ length: 10 }, (_, n) => kpi('acme', { queue_name: `q${n}`, n }));
  await Promise.all(figures.map((figure) => server.reaches(1, '/broadcast/kpi', figure)));
  const batched = () => socket.frames.all('batch').flatMap(({ data }) => data.batches['kpi:update'] ?? []);
  const seen = () => [...batched(), ...socket.frames.all('kpi:update')].map(({ data }) => data.n);
  await until(() => seen().length === figures.length, () => `all figures; there are\n${socket.frames.summary()}`);
  assert.deepEqual(seen().toSorted((a, b) => a - b), figures.map(({ n }) => n));
  assert.ok(batched().length > 1 && socket.frames.all('batch').length < figures.length, socket.frames.summary());
  await server.reaches(1, '/broadcast', { event: 'alert:triggered', data: { organization_id: 'acme', severity: 'critical' } });
  const urgent = await socket.frames.next('alert:triggered');
  assert.equal(urgent.priority, 'urgent');
});

test('who does not authenticate in time is told, and closed with 1008', async (t) => {
  const server = await start(t, { environment: { TIERCAST__AUTH__AUTH_TIMEOUT_MS: '100' } });
  const socket = await openPlain(server, '/ws');
  assert.equal((await socket.frames.next('error')).data.code, 'AUTH_FAILED');
  assert.equal(await socket.end(), 1008);
  await server.holds(0);
});

test('a server that restarts says so in its close code, and first in a frame', async (t) => {
  const server = await start(t);
  const socket = await agent(server, 'acme');
  await server.terminate();
  assert.equal(await socket.end(), 1012);
  assert.equal((await socket.frames.next('system:maintenance')).data.message, 'Server shutting down');
});

test('a heartbeat that is not answered ends the connection', async (t) => {
  const environment = { TIERCAST__HEARTBEAT__PING_INTERVAL_MS: '50', TIERCAST__HEARTBEAT__PING_TIMEOUT_MS: '3000' };
  const server = await start(t, { environment });
  const [silent, healthy] = [await agent(server, 'acme', { autoPong: false }), await agent(server, 'acme', { user: 'user_2' })];
  await silent.end();
  assert.equal(healthy.closed, undefined);
  await server.holds(1);
});

test('the origin of a page counts at the plain door too', async (t) => {
  const server = await start(t);
  assert.ok([401, 403].includes(await refusal(server, '/ws', { origin: 'https://evil.example' })));
  const page = await openPlain(server, '/ws', { origin: 'http://localhost:3000' });
  await page.frames.next('connected');
});

test('without the door a plain WebSocket is refused, and Socket.IO goes on', async (t) => {
  const server = await start(t, { environment: { TIERCAST__DOORS__INTRADAY__ENABLED: 'false' } });
  assert.equal(await refusal(server, '/ws'), 400);
  const socket = server.connect();
  await connected(socket);
  assert.equal((await emitAck(socket, 'client:ping', {})).pong, true);
});

test('large events are compressed for who offers it, and are the same', async (t) => {
  const server = await start(t);
  const [plain, deflating] = [await agent(server, 'acme'), await agent(server, 'acme', { user: 'user_2', perMessageDeflate: true })];
  assert.match(deflating.ws.extensions, /permessage-deflate/);
  const before = deflating.ws._socket.bytesRead;
  const payload = kpi('acme', { note: 'the same words again and again; '.repeat(1_000) });
  await server.reaches(2, '/broadcast/kpi', payload);
  for (const socket of [plain, deflating]) assert.deepEqual((await socket.frames.next('kpi:update')).data, payload);
  assert.ok(deflating.ws._socket.bytesRead - before < 5_000, `${deflating.ws._socket.bytesRead - before} bytes`);
});
