// The original client of the Intraday Console, call by call: it authenticates,
// never subscribes on its first mount, and knows only the envelope.

import assert from 'node:assert/strict';
import test from 'node:test';
import { io } from 'socket.io-client';
import { connected, emitAck, once, startServer, until } from './harness.js';
import { ISO, MESSAGE_ID, alert, attendance, backlog, kpi } from './payloads.js';
import { assertShape } from './shape.js';

/** The client with its own options, and its handler of `message` that acknowledges what asks for it. */
function openConsole(server, { acknowledges = true } = {}) {
  const socket = server.adopt(
    io(server.url, {
      path: '/ws',
      reconnection: true,
      reconnectionAttempts: 5,
      reconnectionDelay: 1_000,
      timeout: 20_000,
      autoConnect: true,
      forceNew: true,
      transports: ['websocket', 'polling'],
    }),
  );
  socket.on('message', (message) => {
    if (acknowledges && message.requires_ack) {
      socket.emit('ack', { message_id: message.message_id, received_at: new Date().toISOString() });
    }
  });
  return socket;
}

async function mount(server, user = 'user_123', options) {
  const socket = openConsole(server, options);
  const hello = await once(socket, 'connected');
  assert.equal(typeof hello.socket_id, 'string');
  assert.match(hello.server_time, ISO);
  const ack = await emitAck(socket, 'authenticate', { user_id: user, organization_id: 'org_123' });
  assert.equal(ack.success, true);
  socket.publicId = ack.socket_id;
  return socket;
}

/** Who is meant, without the time of an acknowledgement. */
const who = (receipts) => receipts.map(({ user_id, socket_id }) => ({ user_id, socket_id }));

test('a console that never subscribes receives every kind of update as an envelope', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const updates = [
    ['/broadcast/kpi', 'kpi:update', kpi('org_123'), 'medium'],
    ['/broadcast/kpi', 'kpi:update', kpi('org_123', { queue_name: 'support', sla_risk: { risk_level: 'critical' } }), 'urgent'],
    ['/broadcast/backlog', 'backlog:update', backlog('org_123', { department_id: 'dept_456' }), 'medium'],
    ['/broadcast/backlog', 'backlog:update', backlog('org_123', { backlog_trend: 'growing' }), 'high'],
    ['/broadcast/attendance', 'attendance:update', attendance('org_123'), 'medium'],
    ['/broadcast/attendance', 'attendance:update', attendance('org_123', { attendance_rate: 0.8 }), 'high'],
    ['/broadcast/alert', 'alert:triggered', alert('org_123'), 'medium'],
    ['/broadcast/alert', 'alert:triggered', alert('org_123', { alert_id: 'alert_2', severity: 'error', status: 'pending' }), 'high'],
    ['/broadcast/alert', 'alert:triggered', alert('org_123', { alert_id: 'alert_3', severity: 'critical' }), 'urgent'],
    ['/broadcast/alert', 'alert:acknowledged', alert('org_123', { status: 'acknowledged' }), 'medium'],
    ['/broadcast/alert', 'alert:resolved', alert('org_123', { status: 'resolved' }), 'medium'],
  ];
  for (const [path, event, payload, priority] of updates) {
    const answer = await server.reaches(1, path, payload);
    const envelope = await socket.inbox.next('message');
    assertShape('envelope', envelope);
    assert.match(envelope.message_id, MESSAGE_ID);
    const { department_id, queue_name } = payload;
    assert.deepEqual(envelope, {
      message_id: answer.message_id,
      event,
      data: payload,
      timestamp: envelope.timestamp,
      organization_id: 'org_123',
      ...(department_id && { department_id }),
      ...(queue_name && { queue_name }),
      priority,
      position: answer.position,
    });
  }
});

test('a console is told of a broadcast to its organization', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const data = { message: 'System maintenance in 10 minutes' };
  await server.reaches(1, '/broadcast', {
    event: 'system:notification',
    data,
    target: { organization_id: 'org_123' },
    priority: 'urgent',
  });
  const envelope = await socket.inbox.next('message');
  assert.equal(envelope.event, 'system:notification');
  assert.equal(envelope.priority, 'urgent');
  assert.deepEqual(envelope.data, data);
});

test("a console's own `ack` settles a publication that waits for it", async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const { status, body } = await server.publish('/broadcast?wait=ack', {
    event: 'system:notification',
    data: { message: 'read me' },
    target: { organization_id: 'org_123' },
    requires_ack: true,
  });
  assert.equal(status, 200);
  assertShape('broadcast-acknowledged', body);
  assert.equal(body.recipients_count, 1);
  assert.deepEqual(body.pending, []);
  assert.deepEqual(who(body.acknowledged), [{ user_id: 'user_123', socket_id: socket.publicId }]);
  const envelope = await socket.inbox.next('message');
  assert.equal(envelope.requires_ack, true);
  assert.equal(envelope.message_id, body.message_id);
});

test('a publication that waits names the consoles that did not acknowledge in time', async (t) => {
  const server = await startServer(t);
  const diligent = await mount(server, 'user_1');
  const silent = await mount(server, 'user_2', { acknowledges: false });
  const { status, body } = await server.publish('/broadcast?wait=ack', {
    event: 'alert:triggered',
    data: alert('org_123'),
    requires_ack: true,
    ack_timeout_ms: 2_000,
  });
  assert.equal(status, 200);
  assert.equal(body.recipients_count, 2);
  assertShape('broadcast-acknowledged', body);
  assert.deepEqual(who(body.acknowledged), [{ user_id: 'user_1', socket_id: diligent.publicId }]);
  assert.deepEqual(who(body.pending), [{ user_id: 'user_2', socket_id: silent.publicId }]);
});

test('a documented frontend acknowledges with the callback of Socket.IO', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('org_123');
  socket.on('alert:triggered', (payload, acknowledge) => acknowledge({ status: 'processed' }));
  const { body } = await server.publish('/broadcast?wait=ack', {
    event: 'alert:triggered',
    data: alert('org_123'),
    requires_ack: true,
  });
  assert.deepEqual(body.pending, []);
  assert.deepEqual(who(body.acknowledged), [{ user_id: 'user_1', socket_id: socket.publicId }]);
});

test('a frontend that acknowledges both forms counts once', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  socket.on('alert:triggered', (payload, acknowledge) => acknowledge());
  const { body } = await server.publish('/broadcast?wait=ack', {
    event: 'alert:triggered',
    data: alert('org_123'),
    requires_ack: true,
  });
  assert.deepEqual(body.pending, []);
  assert.equal(body.acknowledged.length, 1);
  assert.equal((await emitAck(socket, 'client:ping', {})).pong, true);
});

test('a console that authenticates twice is authenticated, and receives everything once', async (t) => {
  const server = await startServer(t);
  const socket = openConsole(server);
  await once(socket, 'connected');
  const identity = { user_id: 'user_123', organization_id: 'org_123' };
  const [first, second] = await Promise.all([
    emitAck(socket, 'authenticate', identity),
    emitAck(socket, 'authenticate', identity),
  ]);
  assert.equal(first.success, true);
  assert.deepEqual(second, { ...first, message: second.message });
  await server.reaches(1, '/broadcast/kpi', kpi('org_123'));
  await server.reaches(1, '/broadcast/backlog', backlog('org_123'));
  await socket.inbox.next('message', ({ event }) => event === 'backlog:update');
  assert.deepEqual(socket.inbox.catalogue(), ['kpi:update', 'message(kpi:update)', 'backlog:update', 'message(backlog:update)']);
});

test('a console that turns into somebody else is refused, and stays who it was', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  for (const other of [
    { user_id: 'user_999', organization_id: 'org_123' },
    { user_id: 'user_123', organization_id: 'org_999' },
  ]) {
    const ack = await emitAck(socket, 'authenticate', other);
    assertShape('authenticate-refused', ack);
    assert.equal(ack.code, 'AUTH_FAILED');
    assert.equal(ack.socket_id, socket.publicId);
  }
  await server.reaches(0, '/broadcast/kpi', kpi('org_999'));
  await server.reaches(1, '/broadcast/kpi', kpi('org_123'));
});

test('the health check of the console is answered, before authenticating too', async (t) => {
  const server = await startServer(t);
  const socket = openConsole(server);
  await connected(socket);
  for (const payload of [{}, undefined]) {
    const pong = await emitAck(socket, 'client:ping', payload);
    assert.match(pong.server_time, ISO);
    assert.deepEqual(pong, { pong: true, server_time: pong.server_time });
  }
  const told = once(socket, 'client:pong');
  socket.emit('client:ping');
  const pong = await told;
  assert.match(pong.server_time, ISO);
  await emitAck(socket, 'authenticate', { user_id: 'user_123', organization_id: 'org_123' });
  assert.equal((await emitAck(socket, 'client:ping', {})).pong, true);
});

test('a widget that is mounted later narrows its own channel and leaves the others', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const ack = await emitAck(socket, 'subscribe', { channels: ['kpi'], organization_id: 'org_123', queue_name: 'support' });
  assert.equal(ack.success, true);
  await server.reaches(0, '/broadcast/kpi', kpi('org_123'));
  await server.reaches(0, '/broadcast/kpi', kpi('org_123', { queue_name: 'sales' }));
  await server.reaches(1, '/broadcast/kpi', kpi('org_123', { queue_name: 'support' }));
  await server.reaches(1, '/broadcast/backlog', backlog('org_123', { queue_name: 'sales' }));
  await socket.inbox.next('message', ({ event }) => event === 'backlog:update');
  assert.deepEqual(
    socket.inbox.all('message').map(({ event, queue_name }) => [event, queue_name]),
    [
      ['kpi:update', 'support'],
      ['backlog:update', 'sales'],
    ],
  );
});

test('a message that asks for it is confirmed as received', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const message = {
    message_id: 'msg_1705314600000_abcdefghi',
    event: 'presence:update',
    data: { user_id: 'user_123', status: 'online' },
    timestamp: new Date().toISOString(),
    requires_ack: true,
  };
  const ack = await emitAck(socket, 'message', message);
  assert.match(ack.timestamp, ISO);
  assert.deepEqual(ack, { message_id: message.message_id, status: 'received', timestamp: ack.timestamp });
});

test('the server lists a console as the operator knows it', async (t) => {
  const server = await startServer(t);
  const socket = await mount(server);
  const { status, body } = await server.get(`/connections/${socket.publicId}`);
  assert.equal(status, 200);
  const { connection } = body;
  assertShape('connection', connection);
  assert.equal(connection.socket_id, socket.publicId);
  assert.equal(connection.user_id, 'user_123');
  assert.equal(connection.organization_id, 'org_123');
  assert.equal(connection.status, 'connected');
  socket.disconnect();
  await until(async () => (await server.get(`/connections/${socket.publicId}`)).status === 404);
  await server.holds(0, '?organization_id=org_123');
});
