// API/er: its hook, with the token of the document and without, and what its pages do with the events.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { ISO, MESSAGE_ID } from '../payloads.js';
import { Frontend, intake, wsUrl } from '../plain.js';

/** The hook: a ping as soon as it opens, and five seconds for each pong. */
export class EventsHook extends Frontend {
  state = 'disconnected';
  lastError = null;
  timeouts = 0;
  pings = [];
  rows = new Map();
  metrics = null;
  transitions = [];

  constructor(options) {
    super({ origin: 'http://localhost:5173', ...options });
  }

  open(jwt = '') {
    this.token = jwt;
    this.connect();
  }

  connect() {
    if (this.ws?.readyState === WebSocket.OPEN) return;
    this.state = 'connecting';
    const ws = (this.ws = this.browse(this.token ? `${this.url}?token=${this.token}` : this.url));
    ws.onopen = () => {
      this.state = 'connected';
      this.sendPing();
      this.heartbeat = this.every(30_000, () => this.sendPing());
    };
    ws.onmessage = ({ data }) => this.handle(JSON.parse(data));
    ws.onclose = () => {
      clearInterval(this.heartbeat);
      clearTimeout(this.pongDue);
      this.state = 'disconnected';
      // Each try sees the state of the first, so the delay does not grow and the tries do not end.
      if (!this.closedByHand) this.later(1_000 + Math.random() * 1_000, () => this.connect());
    };
  }

  send(frame) {
    this.ws.send(JSON.stringify(frame));
  }

  sendPing() {
    if (this.ws.readyState !== WebSocket.OPEN) return;
    const timestamp = new Date().toISOString();
    this.pings.push(timestamp);
    this.send({ type: 'ping', timestamp });
    this.pongDue = this.deadline(5_000, () => {
      this.timeouts += 1;
      this.ws.close();
    });
  }

  handle({ type, data, error }) {
    if (type === 'pong') clearTimeout(this.pongDue);
    if (type === 'event_created') this.rows.set(data.id, data);
    if (type === 'event_update') {
      this.rows.set(data.id, { ...this.rows.get(data.id), ...data });
      // The dashboard takes what it finds here for the whole message, and reads on in its `data`.
      if (data.previous_status && data.data.status) this.transitions.push([data.previous_status, data.data.status]);
    }
    if (type === 'event_deleted') this.rows.delete(data.id);
    if (type === 'metrics_update') this.metrics = data;
    if (type === 'error') this.lastError = error || 'Unknown error';
  }

  subscribe(channel) {
    this.send({ type: 'subscribe', data: { channel } });
  }

  unsubscribe(channel) {
    this.send({ type: 'unsubscribe', data: { channel } });
  }

  leave() {
    this.closedByHand = true;
    this.ws.close();
  }
}

/** Everything that a published payload holds nobody else may see. */
export const MARK = 'only API/er';

export const event = (more = {}) => ({
  id: 'evt_123',
  type: 'order.created',
  source: 'shop',
  payload: { note: MARK },
  status: 'pending',
  created_at: '2025-11-14T17:30:00Z',
  updated_at: '2025-11-14T17:30:00Z',
  ...more,
});

export const address = (server) => wsUrl(server, '/events/ws');

/** Opens the hook and waits for the pong of its first ping. */
export async function open(server, jwt, options) {
  const hook = server.keep(new EventsHook({ url: address(server), ...options }));
  hook.open(jwt);
  const pong = await hook.frames.next('pong');
  assert.equal(pong.timestamp, hook.pings[0], 'the pong repeats the timestamp');
  return hook;
}

/** Both versions see an event come, change and go, and the figures. Returns the hooks. */
export async function tour(server) {
  const hooks = [await open(server, 'whatever.the.page.has'), await open(server)];
  await intake(server, '/api/ws/apier/events', { action: 'created', event: event() });
  const delivered = { status: 'delivered', delivery_latency_ms: 150, updated_at: '2025-11-14T17:30:01Z' };
  const updated = await intake(server, '/api/ws/apier/events', { action: 'updated', event: event(delivered), previous_status: 'pending' });
  await intake(server, '/api/ws/apier/metrics', { total_events: 1_250, pending_events: 5, delivered_events: 1_200, failed_events: 45 });
  for (const hook of hooks) {
    const created = await hook.frames.next('event_created');
    assert.deepEqual(created.data, event());
    assert.match(created.timestamp, ISO);
    const update = await hook.frames.next('event_update');
    assert.deepEqual(update.data, event(delivered));
    assert.equal(update.previous_status, 'pending', 'beside `data`, never in it');
    assert.match(update.message_id, MESSAGE_ID);
    assert.equal(update.message_id, updated.message_id);
    await hook.frames.next('metrics_update');
    assert.deepEqual([...hook.rows.values()], [event(delivered)]);
    const { total_events, pending_events, delivered_events, failed_events, summary } = hook.metrics;
    assert.deepEqual([total_events, pending_events, delivered_events, failed_events], [1_250, 5, 1_200, 45]);
    assert.deepEqual([summary.total, summary.pending, summary.delivered, summary.failed], [1_250, 5, 1_200, 45]);
    assert.equal(typeof summary.success_rate, 'number');
  }
  await intake(server, '/api/ws/apier/events', { action: 'deleted', event: { id: 'evt_123' } });
  for (const hook of hooks) {
    assert.equal((await hook.frames.next('event_deleted')).data.id, 'evt_123');
    assert.equal(hook.rows.size, 0);
    // A heartbeat that was not answered in time would have closed it.
    await hook.frames.next('pong');
    assert.deepEqual([hook.timeouts, hook.closes, hook.lastError], [0, [], null]);
  }
  return hooks;
}
