// WorkMatrix: its web clients in the order they were written, and its agent on the employee's machine.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { ISO, MESSAGE_ID } from '../payloads.js';
import { Frontend, intake } from '../plain.js';

const MAX_RETRIES = 5;
const now = () => new Date().toISOString();
const isOpen = (ws) => ws?.readyState === WebSocket.OPEN;

/** The first client: a store, five seconds between its tries, and no timestamps. */
export class StoreClient extends Frontend {
  isConnected = false;
  activityData = null;
  screenshotData = null;
  status = '';
  attempts = 0;

  open(userId) {
    this.connect(userId);
    this.every(30_000, () => isOpen(this.ws) && this.ws.send(JSON.stringify({ type: 'ping' })));
  }

  connect(userId) {
    if (isOpen(this.ws)) return;
    this.userId = userId;
    this.ws = this.browse();
    this.ws.onopen = () => {
      this.attempts = 0;
      this.isConnected = true;
      this.ws.send(JSON.stringify({ type: 'auth', user_id: userId }));
    };
    this.ws.onmessage = ({ data }) => this.handle(JSON.parse(data));
    this.ws.onclose = () => {
      this.isConnected = false;
      if (!this.userId || this.attempts >= MAX_RETRIES) return;
      this.attempts += 1;
      this.later(5_000, () => this.connect(this.userId));
    };
  }

  handle(frame) {
    if (frame.type === 'activity_update') this.activityData = frame.data;
    if (frame.type === 'screenshot_update') this.screenshotData = frame.data;
    if (frame.type === 'status_update') this.status = frame.status;
    if (frame.type === 'connection_status') this.isConnected = frame.status === 'connected';
  }
}

/** The second client: it doubles its delay, and its handlers get `data` only. */
export class ServiceClient extends Frontend {
  attempts = 0;
  delay = 1_000;
  activityData = null;
  screenshotData = null;

  open(userId) {
    this.userId = userId;
    this.connect();
  }

  connect() {
    if (isOpen(this.ws) || this.isConnecting) return;
    this.isConnecting = true;
    this.cleanup();
    this.ws = this.browse();
    this.ws.onopen = () => {
      this.isConnecting = false;
      this.attempts = 0;
      this.delay = 1_000;
      this.send({ type: 'auth', user_id: this.userId, timestamp: now() });
      this.ping = this.every(30_000, () => this.send({ type: 'ping', timestamp: now() }));
    };
    this.ws.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === 'activity_update') this.activityData = frame.data;
      if (frame.type === 'screenshot_update') this.screenshotData = frame.data;
    };
    this.ws.onclose = () => {
      this.isConnecting = false;
      this.cleanup();
      if (this.attempts >= MAX_RETRIES) return;
      this.later(this.delay, () => {
        this.attempts += 1;
        this.delay *= 2;
        this.connect();
      });
    };
  }

  cleanup() {
    clearInterval(this.ping);
    if (!this.ws) return;
    this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
    if (isOpen(this.ws)) this.ws.close();
    this.ws = null;
  }

  send(frame) {
    if (isOpen(this.ws)) this.ws.send(JSON.stringify(frame));
  }

  startMonitoring() {
    this.connect();
    this.send({ type: 'start_monitoring', timestamp: now() });
  }

  stopMonitoring() {
    this.send({ type: 'stop_monitoring', timestamp: now() });
  }
}

/** The hook beside the second client: it connects, and never says anything. */
export class SilentHook extends Frontend {
  retries = 0;

  open() {
    const ws = this.browse();
    ws.onclose = () => {
      if (this.retries >= MAX_RETRIES) return;
      this.later(3_000, () => {
        this.retries += 1;
        this.open();
      });
    };
  }
}

/** The third client: the user id is in `data`, and errors are read from `data.message`. */
export class ManagerClient extends Frontend {
  retries = 0;
  interval = 1_000;
  errors = [];
  status = 'disconnected';

  open(userId) {
    this.userId = userId;
    this.connect();
  }

  connect() {
    if (isOpen(this.ws)) return;
    this.cleanup();
    this.ws = this.browse();
    this.ws.onopen = () => {
      this.retries = 0;
      this.interval = 1_000;
      this.status = 'connected';
      this.beat();
      this.ws.send(JSON.stringify(this.auth()));
    };
    this.ws.onmessage = ({ data }) => this.handle(JSON.parse(data));
    this.ws.onclose = () => {
      this.status = 'disconnected';
      this.cleanup();
      if (this.retries >= MAX_RETRIES) return;
      this.interval = Math.min(this.interval * 2, 30_000);
      this.retries += 1;
      this.retry = this.later(this.interval, () => this.connect());
    };
  }

  cleanup() {
    clearInterval(this.ping);
    clearTimeout(this.pongDue);
    clearTimeout(this.retry);
    if (!this.ws) return;
    this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
    if (isOpen(this.ws)) this.ws.close();
    this.ws = null;
  }

  auth() {
    return { type: 'auth', data: { userId: this.userId } };
  }

  beat() {
    this.ping = this.every(30_000, () => isOpen(this.ws) && this.ws.send(JSON.stringify({ type: 'ping' })));
  }

  handle(frame) {
    if (frame.type === 'error') this.errors.push(frame.data?.message ?? 'An error occurred with the monitoring service.');
  }

  send(frame) {
    if (!isOpen(this.ws)) return false;
    this.ws.send(JSON.stringify(frame));
    return true;
  }

  startMonitoring() {
    return this.send({ type: 'start_monitoring' });
  }

  stopMonitoring() {
    return this.send({ type: 'stop_monitoring' });
  }
}

/** The fourth client: the third with timestamps, and five seconds for a pong. */
export class HealthClient extends ManagerClient {
  timeouts = 0;
  lastPong = Date.now();

  auth() {
    return { type: 'auth', data: { userId: this.userId, timestamp: now() } };
  }

  beat() {
    this.lastPong = Date.now();
    this.ping = this.every(30_000, () => {
      if (!isOpen(this.ws)) return;
      this.ws.send(JSON.stringify({ type: 'ping', timestamp: now() }));
      clearTimeout(this.pongDue);
      this.pongDue = this.deadline(5_000, () => {
        if (Date.now() - this.lastPong <= 5_000) return;
        this.timeouts += 1;
        this.cleanup();
        this.connect();
      });
    });
  }

  handle(frame) {
    if (frame.type !== 'pong') return super.handle(frame);
    this.lastPong = Date.now();
    clearTimeout(this.pongDue);
  }

  send(frame) {
    return super.send({ ...frame, timestamp: now() });
  }
}

/** The agent: three tries, and none after a clean close. It may know its user only after its first connection. */
export class BackgroundAgent extends Frontend {
  currentUserId = '';
  retries = 0;

  open(userId = '') {
    this.currentUserId = userId;
    this.connect();
  }

  connect() {
    if (isOpen(this.ws)) return;
    this.ws = this.browse();
    this.ws.onopen = () => {
      this.ws.send(JSON.stringify({ type: 'auth', user_id: this.currentUserId, timestamp: now() }));
      this.retries = 0;
    };
    this.ws.onclose = ({ wasClean }) => {
      if (wasClean || this.retries >= 3) return;
      this.retries += 1;
      this.later(5_000, () => this.connect());
    };
    this.every(30_000, () => isOpen(this.ws) && this.ws.send(JSON.stringify({ type: 'ping', timestamp: now() })));
  }

  sendActivity(data) {
    this.ws.send(JSON.stringify({ type: 'activity_update', data, timestamp: now() }));
  }
}

/** The clients that show something, in the order they were written. */
export const versions = [StoreClient, ServiceClient, ManagerClient, HealthClient];

/** Everything that a published payload holds nobody else may see. */
export const MARK = 'only WorkMatrix';

export const activity = (n = 1) => ({
  mouseMovements: 100 + n,
  keyboardEvents: 50,
  scrollEvents: 25,
  networkRequests: 10,
  lastActive: '2024-03-14T12:00:00Z',
  totalActiveTime: 3_600_000,
  idleTime: 300_000,
  note: MARK,
});

export const screenshot = (base64 = 'iVBORw0KGgo=') => ({ id: 'screenshot123', timestamp: '2024-03-14T12:00:00Z', base64, note: MARK });

/** Opens a client and waits until it is logged in. */
export async function login(server, Client, url, userId, options) {
  const client = server.keep(new Client({ url, ...options }));
  client.open(userId);
  const { timestamp } = await client.frames.next('auth_success');
  assert.match(timestamp, ISO);
  const greeting = await client.frames.next('connection_status');
  assert.equal(greeting.status, 'connected');
  return client;
}

/** Every version in turn sees its own user's activity, screenshot and status, and nobody else's. Returns the clients. */
export async function tour(server, url) {
  const clients = await Promise.all(versions.map((Client) => login(server, Client, url, `user-${Client.name}`)));
  const users = (client) => `/api/ws/workmatrix/users/user-${client.constructor.name}`;
  for (const [n, client] of clients.entries()) {
    const sent = await intake(server, `${users(client)}/activity`, activity(n));
    const update = await client.frames.next('activity_update');
    assert.deepEqual(update.data, activity(n));
    assert.match(update.timestamp, ISO);
    assert.match(update.message_id, MESSAGE_ID);
    assert.equal(update.message_id, sent.message_id);

    await intake(server, `${users(client)}/screenshot`, screenshot());
    assert.deepEqual((await client.frames.next('screenshot_update')).data, screenshot());

    await intake(server, `${users(client)}/status`, { status: 'synced' });
    const status = await client.frames.next('status_update');
    assert.equal(status.status, 'synced');
    assert.match(status.timestamp, ISO);
  }
  const [store, service] = clients;
  assert.deepEqual([store.activityData, store.screenshotData, store.status, store.isConnected], [activity(0), screenshot(), 'synced', true]);
  assert.deepEqual([service.activityData, service.screenshotData], [activity(1), screenshot()]);
  for (const client of clients) {
    await client.frames.next('pong', ({ timestamp }) => ISO.test(timestamp));
    for (const type of ['activity_update', 'screenshot_update', 'status_update']) {
      assert.equal(client.frames.all(type).length, 1, `${type} of ${client.constructor.name}`);
    }
    assert.deepEqual(client.frames.all('error'), []);
    assert.deepEqual(client.closes, []);
  }
  return clients;
}
