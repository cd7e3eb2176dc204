// Dexter: its WebSocket client, and the hooks of its pages.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { ISO, MESSAGE_ID } from '../payloads.js';
import { Frontend, intake, token, wsUrl } from '../plain.js';

const MAX_RECONNECT_ATTEMPTS = 5;

/** What the page's authentication gives to every client, for it is a stub. */
export const STUB_TOKEN = 'demo-token';

/** The client: it queues what it cannot send yet, and subscribes again whenever it opens. */
export class RealtimeClient extends Frontend {
  clientId = `client_${Date.now()}_${Math.random().toString(36).slice(2, 11)}`;
  attempts = 0;
  pending = [];
  subscriptions = new Set();
  status = 'disconnected';
  sent = [];

  open(jwt) {
    if (this.ws?.readyState === WebSocket.OPEN) return;
    this.token = jwt;
    this.status = 'connecting';
    const url = new URL(this.url);
    url.pathname = `/ws/${this.clientId}`;
    if (jwt) url.searchParams.set('token', jwt);
    const ws = (this.ws = this.browse(url.toString()));
    ws.onopen = () => {
      this.status = 'connected';
      this.attempts = 0;
      this.ping = this.every(30_000, () => this.send({ type: 'ping', timestamp: new Date().toISOString() }));
      while (this.pending.length > 0) this.send(this.pending.shift());
      for (const channel of this.subscriptions) this.send({ type: 'subscribe', channel });
    };
    ws.onmessage = ({ data }) => this.handle(JSON.parse(data));
    ws.onclose = ({ code }) => {
      this.status = 'disconnected';
      clearInterval(this.ping);
      if (code !== 1000 && code !== 1001) this.reconnect();
    };
  }

  handle() {}

  reconnect() {
    if (this.attempts >= MAX_RECONNECT_ATTEMPTS) {
      this.status = 'error';
      return;
    }
    this.attempts += 1;
    this.status = 'reconnecting';
    this.later(Math.min(5_000 * 2 ** (this.attempts - 1), 30_000), () => this.open(this.token));
  }

  send(frame) {
    if (this.ws?.readyState !== WebSocket.OPEN) {
      this.pending.push(frame);
      return;
    }
    this.sent.push(frame);
    this.ws.send(JSON.stringify(frame));
  }

  subscribe(channel) {
    this.send({ type: 'subscribe', channel });
    this.subscriptions.add(channel);
  }

  unsubscribe(channel) {
    this.send({ type: 'unsubscribe', channel });
    this.subscriptions.delete(channel);
  }

  updatePresence(status) {
    this.send({ type: 'presence', status });
  }
}

/** A page with `useRealtimeUpdates`: it subscribes once it is greeted, and not before. */
export class RealtimePage extends RealtimeClient {
  channels = ['issues', 'alerts'];
  notices = [];
  online = new Set();

  handle(frame) {
    switch (frame.type) {
      case 'connection':
        for (const channel of this.channels) this.subscribe(channel);
        break;
      case 'issue_update':
        this.notices.push(frame.data.title || `Issue ${frame.issue_id} ${frame.update_type}`);
        break;
      case 'alert_trigger':
        this.notices.push(frame.data.message || `Alert ${frame.alert_id} triggered`);
        break;
      case 'presence_update':
        if (frame.status === 'online') this.online.add(frame.user_id);
        else this.online.delete(frame.user_id);
        break;
      case 'notification':
        this.notices.push(frame.data.title || 'New Notification');
        break;
      default:
    }
  }
}

/** Everything that a published payload holds nobody else may see. */
export const MARK = 'only Dexter';

/** Opens a page and waits until it is greeted. */
export async function visit(server, jwt = STUB_TOKEN, { url = wsUrl(server), before = () => {}, ...options } = {}) {
  const page = server.keep(new RealtimePage({ url, ...options }));
  before(page);
  page.open(jwt);
  page.greeting = await page.frames.next('connection');
  assert.equal(nameOfFirst(page), 'connection', 'the greeting comes first');
  assert.deepEqual(
    [page.greeting.status, page.greeting.clientId, typeof page.greeting.authenticated],
    ['connected', page.clientId, 'boolean'],
  );
  return page;
}

const nameOfFirst = (page) => page.frames.names()[0];

/** Waits until these channels are confirmed. */
export async function subscribed(page, ...channels) {
  for (const channel of channels) {
    await page.frames.next('subscription', (frame) => frame.channel === channel && frame.status === 'subscribed');
  }
}

/** A page of a visitor and one of a user, and all that a backend tells them. Returns the pages. */
export async function tour(server) {
  const visitor = await visit(server);
  assert.equal(visitor.greeting.authenticated, false, 'the stub is no token');
  const ann = await visit(server, token({ sub: 'ann', user_id: 'ann' }));
  assert.equal(ann.greeting.authenticated, true);
  for (const page of [visitor, ann]) await subscribed(page, 'issues', 'alerts');
  for (const channel of ['issue:123', 'project:p1', 'global']) ann.subscribe(channel);
  await subscribed(ann, 'issue:123', 'project:p1', 'global');

  // Told on `issues` and on `issue:123`, and once to who is on both.
  const issue = { update_type: 'resolved', data: { title: 'Issue Title', resolved_by: 'user_id', note: MARK } };
  const told = await intake(server, '/issues/123/notify', issue);
  for (const page of [visitor, ann]) {
    const update = await page.frames.next('issue_update');
    assert.deepEqual([update.issue_id, update.update_type, update.data], ['123', 'resolved', issue.data]);
    assert.match(update.timestamp, ISO);
    assert.match(update.message_id, MESSAGE_ID);
    assert.equal(update.message_id, told.message_id);
  }
  const alarm = { message: 'High error rate detected', severity: 'critical', project_id: 'p1', note: MARK };
  await intake(server, '/alerts/456/notify', alarm);
  for (const page of [visitor, ann]) {
    const alert = await page.frames.next('alert_trigger');
    assert.equal(alert.alert_id, '456');
    assert.deepEqual([alert.data.message, alert.data.severity, alert.data.project_id], [alarm.message, 'critical', 'p1']);
    assert.match(alert.timestamp, ISO);
  }
  const sent = await intake(server, `/notify/${ann.clientId}`, { title: 'For you', message: MARK });
  assert.equal(sent.status, 'sent');
  assert.deepEqual((await ann.frames.next('notification')).data, { title: 'For you', message: MARK });

  await intake(server, '/users/ann/assignments', { issue_id: '123', title: MARK, assigned_by: 'bob' });
  const assignment = await ann.frames.next('assignment_notification');
  assert.deepEqual([assignment.issue_id, assignment.title, assignment.assigned_by], ['123', MARK, 'bob']);

  ann.updatePresence('online');
  await ann.frames.next('pong', ({ timestamp }) => ann.sent.some((ping) => ping.timestamp === timestamp));
  for (const page of [visitor, ann]) {
    assert.equal(page.frames.all('issue_update').length, 1);
    assert.equal(page.frames.all('alert_trigger').length, 1);
    assert.deepEqual(page.closes, []);
  }
  assert.deepEqual(visitor.notices, ['Issue Title', alarm.message]);
  assert.deepEqual(ann.notices, ['Issue Title', alarm.message, 'For you']);
  assert.deepEqual(visitor.frames.all('assignment_notification'), []);
  return [visitor, ann];
}
