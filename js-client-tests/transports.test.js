// Every official client on every transport: the same contract for all.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients, payloadOf, transportOf, upgraded } from './clients.js';
import { connected, emitAck, once, onceAll, startServer, subscribe } from './harness.js';
import { ISO, MESSAGE_ID, SUBSCRIPTION_ID, documentsKpi, kpi } from './payloads.js';
import { assertShape } from './shape.js';

const LIMIT = 1_048_576;
const MARGIN = 1_024;

for (const { name, options, upgrades } of clients) {
  test(`${name} authenticates, subscribes and receives what curl publishes`, async (t) => {
    const server = await startServer(t);
    const socket = server.connect(options);
    const upgrade = upgrades && upgraded(socket);
    await connected(socket);

    const hello = await socket.inbox.next('connected');
    assertShape('connected', hello);
    assert.equal(hello.forms, 'both');

    const identity = { user_id: 'user_123', organization_id: 'org_123' };
    const authenticated = await emitAck(socket, 'authenticate', identity);
    assertShape('authenticate-ack', authenticated);
    assert.equal(authenticated.socket_id, hello.socket_id);
    assert.equal(authenticated.user_id, 'user_123');
    assert.equal(authenticated.organization_id, 'org_123');
    const told = await socket.inbox.next('authenticated');
    assert.deepEqual(told, { success: true, message: told.message });

    const subscribed = await emitAck(socket, 'subscribe', { channels: ['kpi'], queue_name: 'support' });
    assertShape('subscribe-ack', subscribed);
    assert.deepEqual(subscribed.subscribed_channels, ['kpi']);
    assert.deepEqual(subscribed.rooms, ['kpi:org:org_123:queue:support']);
    assert.match(subscribed.subscription_id, SUBSCRIPTION_ID);

    await upgrade;
    assert.equal(transportOf(socket), upgrades ? 'websocket' : options.transports[0]);

    const answer = await server.reaches(1, '/broadcast/kpi', documentsKpi);
    assertShape('broadcast', answer);
    assert.match(answer.message_id, MESSAGE_ID);
    assert.equal(answer.message, 'KPI update broadcasted');

    const named = await socket.inbox.nextEntry('kpi:update');
    assert.deepEqual(payloadOf(socket, named), documentsKpi);
    const enveloped = await socket.inbox.nextEntry('message');
    const envelope = payloadOf(socket, enveloped);
    assertShape('envelope', envelope);
    assert.deepEqual(envelope, {
      message_id: answer.message_id,
      event: 'kpi:update',
      data: documentsKpi,
      timestamp: envelope.timestamp,
      organization_id: 'org_123',
      queue_name: 'support',
      priority: 'medium',
      position: answer.position,
    });
    const { entries } = socket.inbox;
    assert.equal(entries.indexOf(enveloped), entries.indexOf(named) + 1, 'the two frames stand next to each other');

    assert.deepEqual((await emitAck(socket, 'unsubscribe', { channels: ['kpi'] })).success, true);
    const ping = await emitAck(socket, 'client:ping', { timestamp: 1_705_314_600_000 });
    assert.match(ping.server_time, ISO);
    assert.deepEqual(ping, { pong: true, server_time: ping.server_time, timestamp: 1_705_314_600_000 });
    assert.equal(transportOf(socket), upgrades ? 'websocket' : options.transports[0]);
  });

  test(`${name} keeps its socket after a message over the size limit`, async (t) => {
    const server = await startServer(t);
    const socket = server.connect(options);
    const upgrade = upgrades && upgraded(socket);
    await connected(socket);
    await upgrade;
    // Before it says who it is, a client has less room.
    assert.equal((await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' })).success, true);

    const large = await emitAck(socket, 'client:ping', { padding: 'x'.repeat(LIMIT - MARGIN) });
    assert.equal(large.pong, true);

    const told = socket.inbox.next('error');
    const refused = await emitAck(socket, 'client:ping', { padding: 'x'.repeat(LIMIT + MARGIN) });
    assert.equal(refused.code, 'MESSAGE_TOO_LARGE');
    const error = await told;
    assertShape('error', error);
    assert.equal(error.code, 'MESSAGE_TOO_LARGE');

    assert.equal((await emitAck(socket, 'client:ping')).pong, true);
    assert.equal(socket.connected, true);
    await server.holds(1);
  });

  test(`${name} receives a message of almost the size limit`, async (t) => {
    const server = await startServer(t);
    const socket = await server.agent('acme', options);
    const payload = kpi('acme', { padding: 'x'.repeat(LIMIT - 4 * MARGIN) });
    await server.reaches(1, '/broadcast/kpi', payload);
    assert.deepEqual(await socket.inbox.next('kpi:update'), payload);
    assert.deepEqual((await socket.inbox.next('message')).data, payload);
  });

  test(`${name} keeps its socket when it sends binary where JSON is expected`, async (t) => {
    const server = await startServer(t);
    const socket = await server.agent('acme', options);
    const bytes = Buffer.from([1, 2, 3, 0xff]);
    for (const payload of [bytes, { channels: [bytes] }, { channels: ['kpi'], queue_name: bytes }]) {
      const ack = await emitAck(socket, 'subscribe', payload);
      assertShape('subscribe-refused', ack);
      assert.equal(ack.code, 'INVALID_MESSAGE');
      assert.equal((await socket.inbox.next('error')).code, 'INVALID_MESSAGE');
    }
    await subscribe(socket, { channels: ['kpi'] });
    await server.reaches(1, '/broadcast/kpi', kpi('acme'));
    await socket.inbox.next('kpi:update');
  });
}

for (const { name, options, upgrades } of clients.filter(({ eio }) => eio === 4)) {
  test(`the id of ${name} is the public id that everything else names`, async (t) => {
    const server = await startServer(t);
    const socket = server.connect(options);
    const upgrade = upgrades && upgraded(socket);
    await connected(socket);
    const { socket_id } = await socket.inbox.next('connected');
    const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
    await upgrade;
    assert.equal(ack.socket_id, socket_id);
    assert.equal((await server.get('/connections')).body.connections[0].socket_id, socket_id);
    assert.equal((await server.get(`/connections/${socket_id}`)).body.connection.user_id, 'user_1');
    assert.notEqual(socket_id, socket.io.engine.id, 'the Engine.IO session id is a credential');
    assert.equal(socket.id, socket_id);
  });
}

for (const { name, options } of clients.filter(({ upgrades }) => upgrades)) {
  test(`${name} loses, doubles and reorders nothing that is published meanwhile`, async (t) => {
    const server = await startServer(t);
    const socket = server.connect(options);
    let done = false;
    const upgrade = upgraded(socket).then(() => (done = true));
    await connected(socket);
    await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });

    const published = [];
    const publishNext = async () => {
      published.push(published.length);
      // An event that is never merged with its predecessor.
      await server.reaches(1, '/broadcast', { event: 'kpi:computed', data: { organization_id: 'acme', n: published.length - 1 } });
    };
    while (!done) await publishNext();
    await upgrade;
    for (let i = 0; i < 10; i += 1) await publishNext();

    const last = published.length - 1;
    await socket.inbox.next('message', ({ data }) => data.n === last);
    assert.equal(transportOf(socket), 'websocket');
    assert.deepEqual(socket.inbox.all('kpi:computed').map(({ n }) => n), published);
    assert.deepEqual(socket.inbox.all('message').map(({ data }) => data.n), published);
  });
}

test('a WebSocket frame over four times the size limit closes with 1009', async (t) => {
  const server = await startServer(t);
  const bystander = await server.agent('acme');
  const socket = await server.agent('acme', { user: 'user_2' });
  const cut = onceAll(socket, 'disconnect');
  socket.emit('client:ping', { padding: 'x'.repeat(4 * LIMIT + MARGIN) });
  const [reason, details] = await cut;
  assert.equal(reason, 'transport close');
  assert.equal(details.context.code, 1009);
  await server.holds(1);
  assert.equal((await emitAck(bystander, 'client:ping')).pong, true);
});

test('recipients_count is the number of sockets that receive, of this organization only', async (t) => {
  const server = await startServer(t);
  await server.reaches(0, '/broadcast/kpi', kpi('acme'));
  const [polling, websocket, upgrading] = clients.map(({ options }) => options);
  const acme = [
    await server.agent('acme', polling),
    await server.agent('acme', websocket),
    await server.agent('acme', upgrading),
  ];
  const other = await server.agent('other');
  await server.reaches(3, '/broadcast/kpi', kpi('acme', { health_score: 1 }));
  await server.reaches(1, '/broadcast/kpi', kpi('other', { health_score: 2 }));
  for (const socket of acme) await socket.inbox.next('kpi:update', ({ health_score }) => health_score === 1);
  await other.inbox.next('kpi:update', ({ health_score }) => health_score === 2);

  const gone = once(acme[0], 'disconnect');
  acme[0].disconnect();
  await gone;
  await server.holds(3);
  await server.reaches(2, '/broadcast/kpi', kpi('acme', { health_score: 3 }));
  for (const socket of acme.slice(1)) {
    await socket.inbox.next('message', ({ data }) => data.health_score === 3);
    assert.deepEqual(socket.inbox.catalogue(), ['kpi:update', 'message(kpi:update)', 'kpi:update', 'message(kpi:update)']);
  }
});
