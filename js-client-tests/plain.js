// Plain WebSocket clients: every frame they get, the tokens they bring, and what the models of the frontends in `frontends` share.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { EventEmitter, once as emitted } from 'node:events';
import net from 'node:net';
import WebSocket from 'ws';
import { request, within } from './harness.js';
import { hold } from './secrets.js';

/** The secret of the tokens in the examples' config files. */
export const EXAMPLE_SECRET = 'example-secret-replace-it-before-others-connect';

/** The name of a frame: the dialects call it `type`, and Intraday calls it `event`. */
export const nameOf = (frame) => frame.type ?? frame.event;

/** Every frame that arrived, in order; each can be taken once. */
export class Frames {
  entries = [];
  #waiting = new Set();
  #owner;

  /** `owner` describes itself when something does not come. */
  constructor(owner) {
    this.#owner = owner;
  }

  /** A frame that is not one JSON object fails here, and the test with it. */
  push(text) {
    const frame = JSON.parse(text);
    assert.ok(typeof frame === 'object' && frame !== null && !Array.isArray(frame), `not an object: ${text}`);
    this.entries.push({ frame, taken: false });
    for (const look of this.#waiting) look();
  }

  /** The next frame of this name, already here or still to come. */
  async next(name, matches = () => true) {
    const find = () => this.entries.find(({ frame, taken }) => !taken && nameOf(frame) === name && matches(frame));
    let look;
    const arrived = new Promise((resolve) => {
      look = () => find() && resolve();
      this.#waiting.add(look);
      look();
    });
    try {
      await within(arrived, () => `"${name}" on ${this.#owner()}; it received\n${this.summary()}`);
    } finally {
      this.#waiting.delete(look);
    }
    const entry = find();
    entry.taken = true;
    return entry.frame;
  }

  /** All frames of this name so far. */
  all(name) {
    return this.entries.map(({ frame }) => frame).filter((frame) => nameOf(frame) === name);
  }

  /** The names of all frames so far. */
  names() {
    return this.entries.map(({ frame }) => nameOf(frame));
  }

  summary() {
    return this.entries.map(({ frame }) => JSON.stringify(frame).slice(0, 300)).join('\n') || 'nothing';
  }
}

/** The address of a path of a server, or of a proxy in front of it. */
export const wsUrl = ({ url }, path = '/') => url.replace('http', 'ws') + path;

/** One connection, and nothing that it does by itself. */
export class PlainSocket {
  frames = new Frames(() => `a plain socket that is ${this.closed ? `closed (${this.closed.code})` : 'open'}`);
  closed;

  constructor(url, options) {
    this.ws = new WebSocket(url, { perMessageDeflate: false, ...options });
    this.ws.on('message', (data) => this.frames.push(data.toString()));
    this.ended = new Promise((resolve) => {
      this.ws.on('close', (code, reason) => resolve((this.closed = { code, reason: reason.toString() })));
    });
    // A refused or broken connection shows as a close too.
    this.ws.on('error', () => {});
  }

  /** Sends an object as JSON, and text or bytes as they are; `options` are those of `ws`. */
  send(frame, options) {
    const raw = typeof frame === 'string' || Buffer.isBuffer(frame);
    this.ws.send(raw ? frame : JSON.stringify(frame), options);
  }

  /** Waits for the close frame, and says its code. */
  async end() {
    return (await within(this.ended, () => `the server to close; it sent\n${this.frames.summary()}`)).code;
  }

  disconnect() {
    this.ws.terminate();
  }
}

/** Opens a plain connection that is closed before the server stops. */
export async function openPlain(server, path, { via = server, ...options } = {}) {
  const socket = server.keep(new PlainSocket(wsUrl(via, path), options));
  await within(emitted(socket.ws, 'open'), () => `${path} to open`);
  return socket;
}

/** The status that refuses an upgrade. */
export async function refusal(server, path, options) {
  const ws = new WebSocket(wsUrl(server, path), options);
  ws.on('error', () => {});
  const refused = new Promise((resolve, reject) => {
    ws.on('unexpected-response', (_, response) => resolve(response.statusCode));
    ws.on('open', () => reject(new Error(`${path} was opened`)));
  });
  try {
    return await within(refused, () => `${path} to be refused`);
  } finally {
    ws.terminate();
  }
}

/** POSTs to an intake and expects 200; returns the answer. */
export async function intake(server, path, body) {
  const answer = await request(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  assert.equal(answer.status, 200, `POST ${path}: ${answer.status} ${answer.text}`);
  return answer.body;
}

const base64url = (value) => Buffer.from(value).toString('base64url');

/** A JSON Web Token (HS256) that is valid for an hour. */
export function token(claims, { secret = EXAMPLE_SECRET, lifetime_s = 3_600, header = { alg: 'HS256', typ: 'JWT' } } = {}) {
  const now = Math.floor(Date.now() / 1_000);
  const body = { iat: now, exp: now + lifetime_s, ...claims };
  const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(body))}`;
  const jwt = `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
  hold('a token', jwt);
  hold('the secret of tokens', secret);
  return jwt;
}

/** A port that is free now, for a listener whose port has to be known before it listens. */
export async function freePort() {
  const listener = net.createServer();
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/**
 * What every model of a frontend has: its connections and timers, and all frames they brought.
 *
 * A model opens, sends, closes and comes back exactly as its original, and
 * faster: `pace` shortens its waits and the time between its heartbeats, never
 * the time that it gives the server to answer.
 */
export class Frontend extends EventEmitter {
  frames = new Frames(() => `${this.constructor.name} (closed with ${this.closes.map(({ code }) => code).join(', ') || 'nothing'})`);
  /** How often a connection was open. */
  opens = 0;
  /** How each of its connections was closed: `{code, wasClean}`. */
  closes = [];
  #sockets = new Set();
  #timers = new Set();
  #gone = false;

  constructor({ url, origin = 'http://localhost:3000', pace = 0.01 }) {
    super();
    Object.assign(this, { url, origin, pace });
  }

  /** Opens a connection as a page of this frontend does. */
  browse(url = this.url) {
    const socket = new WebSocket(url, { origin: this.origin });
    this.#sockets.add(socket);
    socket.addEventListener('open', () => {
      this.opens += 1;
      // Whoever waits for this sees what the model sent at once as sent.
      setImmediate(() => this.emit('open'));
    });
    socket.addEventListener('message', ({ data }) => this.frames.push(data));
    socket.addEventListener('close', ({ code, wasClean }) => {
      this.#sockets.delete(socket);
      this.closes.push({ code, wasClean });
      setImmediate(() => this.emit('close', code));
    });
    // A browser tells no more of an error than the close that follows.
    socket.addEventListener('error', () => {});
    return socket;
  }

  /** Waits until a connection is open for the n-th time. */
  async opened(n = 1) {
    while (this.opens < n) await within(emitted(this, 'open'), () => `${this.constructor.name} to open for the ${n}. time`);
  }

  /** Waits until a connection was closed for the n-th time, and says how. */
  async closed(n = 1) {
    while (this.closes.length < n) await within(emitted(this, 'close'), () => `${this.constructor.name} to be closed`);
    return this.closes[n - 1];
  }

  /** `setTimeout` at this model's pace. */
  later(ms, act) {
    return this.#timer(setTimeout, ms * this.pace, act);
  }

  /** `setTimeout` for what the server has to keep to. */
  deadline(ms, act) {
    return this.#timer(setTimeout, ms, act);
  }

  /** `setInterval` at this model's pace. */
  every(ms, act) {
    return this.#timer(setInterval, ms * this.pace, act);
  }

  #timer(set, ms, act) {
    if (this.#gone) return undefined;
    const timer = set(act, ms);
    this.#timers.add(timer);
    return timer;
  }

  /** Closes the page. */
  disconnect() {
    this.#gone = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of this.#sockets) socket.terminate();
  }
}
