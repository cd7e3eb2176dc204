// AV-Gym: the services behind its admin pages in the order they were written.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { ISO } from '../payloads.js';
import { Frontend, intake, token, wsUrl } from '../plain.js';

const MAX_RECONNECT_ATTEMPTS = 5;
const QUEUED = ['check_in', 'check_out'];
const BATCHED = ['check_in_update', 'member_update', 'notification'];

/** What all versions do: handlers by type, a queue for check-ins, and batches of what is not urgent. */
class Service extends Frontend {
  handlers = new Map();
  pending = [];
  batch = [];
  attempts = 0;
  status = 'disconnected';
  statuses = [];
  token = null;

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  show(status) {
    this.status = status;
    this.statuses.push(status);
  }

  subscribe(type, handler) {
    this.handlers.set(type, [...(this.handlers.get(type) ?? []), handler]);
  }

  /** `send` of the service: at once, in a batch, or when it is open again. */
  send(type, data) {
    if (!this.isOpen) {
      if (!QUEUED.includes(type)) throw new Error('WebSocket is not connected');
      this.pending.push([type, data]);
    } else if (BATCHED.includes(type)) {
      if (this.batch.push([type, data]) === 1) this.deadline(100, () => this.sendBatch());
    } else {
      this.socket.send(JSON.stringify({ type, data }));
    }
  }

  sendBatch(metadata) {
    if (this.batch.length === 0) return;
    const batches = {};
    for (const [type, data] of this.batch.splice(0)) (batches[type] ??= []).push(data);
    this.socket.send(JSON.stringify({ type: 'batch', batches, ...metadata }));
  }

  flush() {
    for (const [type, data] of this.pending.splice(0)) this.send(type, data);
  }

  dispatch(type, payload) {
    for (const handler of this.handlers.get(type) ?? []) handler(payload);
  }

  dispatchBatch({ batches }) {
    for (const [type, payloads] of Object.entries(batches)) for (const payload of payloads) this.dispatch(type, payload);
  }

  /** A page of today or of then, as its components send. */
  checkIn(memberId) {
    this.send('check_in', { member_id: memberId });
  }

  checkOut(checkInId) {
    this.send('check_out', { check_in_id: checkInId });
  }
}

/** The document's client: it connects at mount without a token, and reads `payload.success`. */
export class FirstService extends Service {
  mount() {
    this.connect();
  }

  setAuthToken(jwt) {
    this.token = jwt;
    if (!this.isOpen) return;
    this.leave();
    this.connect();
  }

  connect() {
    if (this.isOpen) return;
    this.leave();
    this.show('connecting');
    const socket = (this.socket = this.browse(this.token ? `${this.url}?token=${this.token}` : this.url));
    socket.onopen = () => {
      this.attempts = 0;
      this.show('connected');
      this.ping = this.every(30_000, () => this.isOpen && this.socket.send(JSON.stringify({ type: 'ping' })));
      this.flush();
    };
    socket.onmessage = ({ data }) => this.handle(JSON.parse(data));
    socket.onclose = () => {
      this.show('disconnected');
      this.reconnect();
    };
  }

  handle({ type, payload }) {
    if (type === 'pong') return;
    // Without a payload the original throws here.
    if (type === 'auth_response' && payload.success === false) {
      this.show('authentication_failed');
      this.leave();
    } else if (type === 'batch' && payload.batches) {
      this.dispatchBatch(payload);
    } else {
      this.dispatch(type, payload);
    }
  }

  reconnect() {
    clearTimeout(this.retry);
    if (this.attempts >= MAX_RECONNECT_ATTEMPTS) return;
    const delay = Math.min(1_000 * 2 ** this.attempts, 30_000);
    this.attempts += 1;
    this.retry = this.later(delay, () => this.connect());
  }

  leave() {
    clearInterval(this.ping);
    clearTimeout(this.retry);
    this.socket?.close();
    this.socket = null;
  }
}

/** The middle period: the token goes into a message; `withUrlToken` is its last form, which also had it in the URL. */
export class MessageService extends Service {
  authenticated = false;
  failure;

  constructor({ withUrlToken = false, ...options }) {
    super(options);
    this.withUrlToken = withUrlToken;
  }

  setAuthToken(jwt) {
    this.token = jwt;
    this.connect();
  }

  connect() {
    const query = this.withUrlToken && this.token ? `?token=${this.token}` : '';
    const socket = (this.socket = this.browse(this.url + query));
    socket.onopen = () => {
      this.attempts = 0;
      if (this.token) socket.send(JSON.stringify({ type: 'authenticate', payload: { token: this.token } }));
      this.show('connected');
      this.every(10_000, () => this.isOpen && this.socket.send(JSON.stringify({ type: 'heartbeat', timestamp: Date.now() })));
      this.flush();
    };
    socket.onmessage = ({ data }) => this.handle(JSON.parse(data));
    socket.onclose = ({ code }) => {
      this.show('disconnected');
      if (code === 1000 || this.attempts >= MAX_RECONNECT_ATTEMPTS) return;
      this.later(1_000 * 2 ** this.attempts, () => this.connect());
      this.attempts += 1;
    };
  }

  handle({ type, payload }) {
    if (type === 'authentication_success') this.authenticated = true;
    else if (type === 'authentication_error') this.failure = payload?.message ?? 'Unknown authentication error';
    else if (type === 'batch') this.dispatchBatch(payload);
    else this.dispatch(type, payload);
  }

  checkIn(memberId) {
    this.send('check_in', { memberId, timestamp: new Date().toISOString() });
  }

  checkOut(checkInId) {
    this.send('check_out', { checkInId, timestamp: new Date().toISOString() });
  }
}

/** Today's client: it waits for a token, counts heartbeats, and stays away after 1000 and 4001. */
export class LatestService extends Service {
  missed = 0;

  setAuthToken(jwt) {
    const before = this.token;
    this.token = jwt;
    if (jwt && jwt !== before && !this.isOpen) this.connect();
    if (!jwt && before) this.leave();
  }

  connect() {
    if (this.status === 'connecting' || this.isOpen) return;
    if (this.socket) this.leave();
    this.show('connecting');
    const url = new URL(this.url);
    if (this.token) url.searchParams.set('token', this.token);
    const timeout = this.deadline(10_000, () => this.status === 'connecting' && this.fail());
    const socket = (this.socket = this.browse(url.toString()));
    socket.onopen = () => {
      clearTimeout(timeout);
      this.attempts = 0;
      this.show('connected');
      this.ping = this.every(30_000, () => this.isOpen && this.socket.send(JSON.stringify({ type: 'ping' })));
      this.missed = 0;
      this.lastAck = Date.now();
      this.heartbeat = this.every(10_000, () => this.beat());
      this.flush();
    };
    socket.onmessage = ({ data }) => this.handle(JSON.parse(data));
    socket.onclose = ({ code }) => {
      clearTimeout(timeout);
      if (code === 4001) this.show('authentication_failed');
      if (code !== 1000 && code !== 4001) this.reconnect();
    };
    socket.onerror = () => {
      clearTimeout(timeout);
      this.fail();
    };
  }

  beat() {
    if (!this.isOpen) return;
    if (Date.now() - this.lastAck > 15_000) {
      this.missed += 1;
      if (this.missed >= 2) {
        this.fail();
        return;
      }
    }
    this.socket.send(JSON.stringify({ type: 'heartbeat' }));
  }

  handle({ type, payload }) {
    if (type === 'heartbeat_ack') {
      this.lastAck = Date.now();
      this.missed = 0;
    } else if (type === 'batch' && payload && typeof payload === 'object' && 'batches' in payload) {
      this.dispatchBatch(payload);
    } else if (type !== 'pong' && payload !== undefined && payload !== null) {
      this.dispatch(type, payload);
    }
  }

  fail() {
    this.show('disconnected');
    this.socket?.close(1000, 'Connection error');
    this.socket = null;
    this.clear();
    this.reconnect();
  }

  reconnect() {
    clearTimeout(this.retry);
    if (this.attempts >= MAX_RECONNECT_ATTEMPTS) {
      this.show('failed');
      return;
    }
    // The original reckons its delay from a time that is always 0, so it is always the longest.
    this.retry = this.later(30_000, () => {
      this.attempts += 1;
      this.connect();
    });
  }

  leave() {
    this.socket?.close(1000, 'Manual disconnect');
    this.socket = null;
    this.clear();
    if (this.status !== 'authentication_failed') this.show('disconnected');
  }

  clear() {
    for (const timer of [this.ping, this.heartbeat, this.retry]) clearTimeout(timer);
  }

  sendBatch() {
    super.sendBatch({ metadata: { count: this.batch.length, timestamp: Date.now(), compression: 'grouped' } });
  }

  checkIn(memberId) {
    this.send('check_in', { memberId, timestamp: new Date().toISOString(), location: 'Front desk', notes: MARK });
  }

  checkOut(checkInId) {
    this.send('check_out', { checkInId, timestamp: new Date().toISOString(), notes: MARK });
  }
}

/** Everything that a published payload holds nobody else may see. */
export const MARK = 'only AV-Gym';

/** A token as simplejwt makes it. */
export const accessToken = (user = 1, options) => token({ token_type: 'access', jti: `jti-${user}`, user_id: user, sub: String(user) }, options);

/** What a page shows: every event a component listens for, batched or not, in order. */
export function listen(service) {
  service.shown = [];
  const types = [
    'initial_stats', 'check_in_update', 'member_checked_in', 'member_checked_out', 'check_in_stats',
    'check_in_success', 'check_out_success', 'check_in_error', 'check_out_error', 'member_update', 'notification',
  ];
  for (const type of types) {
    service.subscribe(type, (payload) => {
      service.shown.push({ type, payload });
      service.emit('shown');
    });
  }
  return service;
}

/** The guard of today's `useCheckIn`, which drops what does not pass. */
export function passesGuard({ id, member, check_in_time, ...more }) {
  const strings = [id, member?.id, member?.full_name, member?.membership_type, check_in_time];
  return strings.every((value) => typeof value === 'string') && (!('location' in more) || typeof more.location === 'string');
}

/** The next such event that a page has not been asked for yet. */
export async function shows(service, type, matches = () => true) {
  const find = () => service.shown.find((event) => !event.taken && event.type === type && matches(event.payload));
  await new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error(`${service.constructor.name} never showed ${type}; frames:\n${service.frames.summary()}`)),
      10_000,
    );
    const look = () => {
      if (!find()) return;
      clearTimeout(late);
      service.off('shown', look);
      resolve();
    };
    service.on('shown', look);
    look();
  });
  const event = find();
  event.taken = true;
  return event.payload;
}

export const address = (server) => wsUrl(server, '/ws/checkins/');

/** Opens every version with its own way of logging in. */
export async function openAll(server, options) {
  const url = address(server);
  // Its second connection has to be open before it would try again because of the first one's end.
  const first = listen(server.keep(new FirstService({ url, pace: 0.05, ...options })));
  first.mount();
  await first.opened();
  first.setAuthToken(accessToken(1));
  const message = listen(server.keep(new MessageService({ url, ...options })));
  message.setAuthToken(accessToken(2));
  const both = listen(server.keep(new MessageService({ url, withUrlToken: true, ...options })));
  both.setAuthToken(accessToken(3));
  const latest = listen(server.keep(new LatestService({ url, ...options })));
  latest.setAuthToken(accessToken(4));
  const services = [first, message, both, latest];
  for (const service of services) {
    const stats = await shows(service, 'initial_stats');
    for (const count of ['currentlyIn', 'todayTotal', 'averageStayMinutes']) assert.ok(Number.isInteger(stats[count]), count);
    assert.match(stats.timestamp, ISO);
  }
  for (const service of [first, latest]) {
    const { payload } = await service.frames.next('auth_response');
    assert.equal(payload.success, true);
  }
  for (const service of [message, both]) {
    assert.equal(typeof (await service.frames.next('authentication_success')).message, 'string');
    assert.equal(service.authenticated, true);
  }
  return services;
}

/** One member goes in and out at each page, and every page sees it; then what the office sends. Returns the services. */
export async function tour(server) {
  const services = await openAll(server);
  for (const [n, service] of services.entries()) {
    service.checkIn(`member-${n}`);
    const record = await shows(service, 'check_in_success');
    assert.equal(record.member.id, `member-${n}`);
    assert.ok(passesGuard(record), JSON.stringify(record));
    for (const page of services) {
      const update = await shows(page, 'check_in_update', ({ id }) => id === record.id);
      // One payload for the dashboard, for the statistics and for the history.
      assert.deepEqual([update.status, update.check_out_time, update.member.full_name], ['checked_in', null, record.member.full_name]);
      assert.equal(update.check_in_time, record.check_in_time);
      assert.equal(update.currentlyIn, n + 1);
      assert.deepEqual([update.type, update.checkIn.id, update.checkIn.member.fullName], ['check_in', record.id, record.member.full_name]);
      assert.ok(passesGuard(await shows(page, 'member_checked_in', ({ id }) => id === record.id)));
      await shows(page, 'check_in_stats', ({ currentlyIn }) => currentlyIn === n + 1);
    }
    service.record = record;
  }
  for (const [n, service] of services.entries()) {
    service.checkOut(service.record.id);
    const left = await shows(service, 'check_out_success');
    assert.equal(left.id, service.record.id);
    assert.equal(typeof left.check_out_time, 'string');
    for (const page of services) {
      const update = await shows(page, 'check_in_update', ({ id, status }) => id === left.id && status === 'checked_out');
      assert.deepEqual([update.check_out_time, update.type], [left.check_out_time, 'check_out']);
      assert.ok(passesGuard(await shows(page, 'member_checked_out', ({ id }) => id === left.id)));
      await shows(page, 'check_in_stats', ({ currentlyIn, todayTotal }) => currentlyIn === 3 - n && todayTotal === 4);
    }
  }
  await intake(server, '/api/ws/gym/members', { id: 'member-0', full_name: 'Zoë', status: 'active', note: MARK });
  await intake(server, '/api/ws/gym/notifications', { title: 'Pool', message: MARK, type: 'info' });
  for (const page of services) {
    assert.equal((await shows(page, 'member_update')).full_name, 'Zoë');
    assert.equal((await shows(page, 'notification')).message, MARK);
  }
  for (const service of services) {
    if (!(service instanceof MessageService)) await service.frames.next('pong');
    if (!(service instanceof FirstService)) await service.frames.next('heartbeat_ack', ({ timestamp }) => ISO.test(timestamp));
  }
  return services;
}
