// API/er: its hook, with the document's token and without, unmodified, against the server of `examples/apier`.

import assert from 'node:assert/strict';
import test from 'node:test';
import { startServer } from './harness.js';
import { ISO } from './payloads.js';
import { intake, openPlain, wsUrl } from './plain.js';
import { openProxy } from './proxy.js';
import { EventsHook, event, open, tour } from './frontends/apier.js';
import { openTerminal } from './terminal.js';

const start = (t) => startServer(t, { example: 'apier' });
const events = (server, body) => intake(server, '/api/ws/apier/events', body);
const metrics = (server, body) => intake(server, '/api/ws/apier/metrics', body);

/** The channels a hook has heard of since it was asked last, up to a ping of its own. */
async function heard(hook) {
  hook.sendPing();
  await hook.frames.next('pong', ({ timestamp }) => timestamp === hook.pings.at(-1));
  const names = hook.frames.entries.filter(({ taken }) => !taken).map(({ frame }) => frame.type);
  for (const entry of hook.frames.entries) entry.taken = true;
  return names.filter((name) => /^(event|metrics)_/.test(name)).toSorted();
}

test('both versions see events come, change and go, and the figures', async (t) => {
  await tour(await start(t));
});

test('wscat runs the lines of the document', async (t) => {
  const server = await start(t);
  for (const path of ['/events/ws', '/production?token=YOUR_TOKEN']) {
    const terminal = openTerminal(t, 'wscat', '-c', wsUrl(server, path));
    await terminal.shows(/Connected/);
    terminal.type('{"type": "ping", "timestamp": "2025-11-14T17:30:00Z"}');
    const [, pong] = await terminal.shows(/< (\{.*\})/);
    assert.deepEqual(JSON.parse(pong), { type: 'pong', timestamp: '2025-11-14T17:30:00Z' });
    terminal.type('{"type": "ping"}');
    const [, dated] = await terminal.shows(/< (\{"type":"pong".*\})/);
    assert.match(JSON.parse(dated).timestamp, ISO);
  }
});

test('nothing comes but what was asked for or published', async (t) => {
  const server = await start(t);
  const socket = await openPlain(server, '/events/ws');
  socket.send({ type: 'ping', timestamp: 'mine' });
  assert.deepEqual(await socket.frames.next('pong'), { type: 'pong', timestamp: 'mine' });
  assert.deepEqual(socket.frames.names(), ['pong']);
});

test('a hook that subscribes gets that channel, and the rest no more', async (t) => {
  const server = await start(t);
  const publishAll = async () => {
    await events(server, { action: 'created', event: event() });
    await events(server, { action: 'updated', event: event({ status: 'failed' }), previous_status: 'pending' });
    await metrics(server, { total_events: 1, pending_events: 0, delivered_events: 0, failed_events: 1 });
  };
  const everything = ['event_created', 'event_update', 'metrics_update'];
  const [listener, bystander] = [await open(server), await open(server)];
  await publishAll();
  assert.deepEqual(await heard(listener), everything);
  assert.deepEqual(await heard(bystander), everything);

  listener.subscribe('metrics');
  const ack = await listener.frames.next('ack');
  assert.equal(ack.action, 'subscribe');
  await publishAll();
  assert.deepEqual(await heard(listener), ['metrics_update']);
  assert.deepEqual(await heard(bystander), everything, 'who never subscribes gets everything');

  listener.subscribe('events');
  await listener.frames.next('ack');
  await publishAll();
  assert.deepEqual(await heard(listener), everything);
  listener.unsubscribe('metrics');
  assert.equal((await listener.frames.next('ack')).action, 'unsubscribe');
  await publishAll();
  assert.deepEqual(await heard(listener), ['event_created', 'event_update']);
});

test('one kind of event may be subscribed to, and an unknown channel is an error', async (t) => {
  const server = await start(t);
  const hook = await open(server);
  hook.subscribe('unheard-of');
  assert.equal(typeof (await hook.frames.next('error')).error, 'string');
  assert.equal(hook.lastError, hook.frames.all('error')[0].error);
  await events(server, { action: 'created', event: event() });
  await events(server, { action: 'updated', event: event() });
  // A refusal has not ended what comes unasked.
  assert.deepEqual(await heard(hook), ['event_created', 'event_update']);
});

for (const [name, body] of Object.entries({
  flat: { total_events: 100, pending_events: 10, delivered_events: 80, failed_events: 10 },
  nested: { summary: { total: 100, pending: 10, delivered: 80, failed: 10, success_rate: 88.9 } },
})) {
  test(`${name} metrics are sent in both shapes, with the rest`, async (t) => {
    const server = await start(t);
    const hook = await open(server);
    const latency = { p50: 0.1, p95: 0.4, p99: 0.9, sample_size: 80 };
    const throughput = { events_per_minute: 2, events_per_hour: 120, total_events_24h: 100, time_range: '24h' };
    await metrics(server, { ...body, latency, throughput });
    const { data, timestamp } = await hook.frames.next('metrics_update');
    assert.match(timestamp, ISO);
    const { total_events, pending_events, delivered_events, failed_events } = data;
    assert.deepEqual([total_events, pending_events, delivered_events, failed_events], [100, 10, 80, 10]);
    const { success_rate, ...summary } = data.summary;
    assert.deepEqual(summary, { total: 100, pending: 10, delivered: 80, failed: 10 });
    assert.ok(success_rate >= 80 && success_rate < 90, `success_rate ${success_rate}`);
    assert.deepEqual([data.latency, data.throughput], [latency, throughput]);
  });
}

test('an event that cannot be told is refused, and the backend learns why', async (t) => {
  const server = await start(t);
  const wrong = [{}, { action: 'created' }, { action: 'exploded', event: event() }, { action: 'created', event: 7 }, '[', '"x"'];
  for (const body of wrong) {
    const answer = await server.publish('/apier/events', body);
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.equal(typeof answer.body.error, 'string');
  }
});

test('everybody only reads', async (t) => {
  const server = await start(t);
  const [hook, other] = [await open(server), await open(server)];
  hook.send({ type: 'event_created', data: event() });
  hook.send({ type: 'metrics_update', data: {} });
  for (let n = 0; n < 2; n += 1) assert.equal(typeof (await hook.frames.next('error')).error, 'string');
  assert.deepEqual(await heard(other), []);
});

test('a hook comes back over a broken connection and a restart, and asks for nothing again', async (t) => {
  const server = await start(t);
  const proxy = await openProxy(t, server);
  const hook = server.keep(new EventsHook({ url: wsUrl(proxy, '/events/ws') }));
  hook.open();
  await hook.frames.next('pong');
  for (let n = 2; n < 5; n += 1) {
    const { closes, opens } = hook;
    const next = closes.length + 1;
    proxy.cut();
    await hook.closed(next);
    proxy.restore();
    await hook.opened(opens + 1);
    await hook.frames.next('pong', ({ timestamp }) => timestamp === hook.pings.at(-1));
    await events(server, { action: 'created', event: event({ id: `evt_${n}` }) });
    assert.equal((await hook.frames.next('event_created')).data.id, `evt_${n}`);
  }
  const closes = hook.closes.length;
  await server.terminate();
  await hook.closed(closes + 2);
});
