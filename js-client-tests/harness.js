// Starts real servers for the official clients, and waits for what they say.
//
// Every wait ends with an event or fails at a deadline with what was seen so
// far; nothing here waits for time to pass. Each server has a folder and a port
// of its own, so the tests may run twice at once.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import * as secrets from './secrets.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const BINARY = path.resolve(here, process.env.TIERCAST_BIN ?? '../target/debug/tiercast');
const EXAMPLES = path.resolve(here, '../examples');
const SHOW_OUTPUT = Boolean(process.env.TIERCAST_OUTPUT);

/** How long anything may take before its test fails, in milliseconds. */
export const DEADLINE_MS = 10_000;

/**
 * Starts `serve` with a config file and stops it when the test ends.
 *
 * The file is made of `config`, or it is that of a folder in `examples`, with a
 * port and a log of the test's own; `environment` wins over both. The server
 * must then exit by itself, with code 0 and without a panic. It logs all that
 * it can, and none of it may be a secret of a client.
 */
export async function startServer(t, { config = {}, example, environment = {}, args = [] } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'tiercast-js-'));
  const file = example ? path.join(EXAMPLES, example, 'config.toml') : path.join(folder, 'config.toml');
  const own = { TIERCAST__SERVER__PORT: '0', TIERCAST__LOG__PATH: path.join(folder, 'data') };
  if (!example) await writeFile(file, toToml({ ...config, server: { host: '127.0.0.1', port: 0, ...config.server } }));

  const talkative = config.logging?.level ? {} : { TIERCAST__LOGGING__LEVEL: 'trace' };
  const child = spawn(BINARY, ['serve', '--config', file, ...args], {
    cwd: folder,
    env: { ...cleanEnvironment(), ...talkative, ...(example ? own : {}), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const server = new TestServer(child, folder);
  t.after(() => server.stop());
  await server.listening();
  return server;
}

/** A certificate for 127.0.0.1 that nobody else has signed, as `[server.tls]` names it, and itself as `ca`. */
export async function selfSigned(t) {
  const folder = await mkdtemp(path.join(tmpdir(), 'tiercast-tls-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [key_file, cert_file] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key_file];
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...key, ...name, '-out', cert_file], { stdio: 'ignore' });
  return { tls: { cert_file, key_file }, ca: await readFile(cert_file) };
}

class TestServer {
  #child;
  #folder;
  #output = '';
  #answers = [];
  #clients = new Set();
  #exited;
  #stopped;

  constructor(child, folder) {
    this.#child = child;
    this.pid = child.pid;
    this.#folder = folder;
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => resolve({ error }));
      child.once('close', (code, signal) => resolve({ code, signal }));
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        this.#output += text;
        if (SHOW_OUTPUT) process.stderr.write(text);
      });
    }
  }

  /** Everything the server wrote so far. */
  output() {
    return this.#output;
  }

  /** Waits until it has written this, and what it says has therefore happened. */
  async says(text) {
    await this.#writes(() => withoutColors(this.#output).includes(text), `say "${text}"`);
  }

  async #writes(finds, what) {
    const streams = [this.#child.stdout, this.#child.stderr];
    let look;
    const told = new Promise((resolve) => {
      look = () => finds() && resolve();
      for (const stream of streams) stream.on('data', look);
      look();
    });
    const ended = this.#exited.then(({ error, code, signal }) => {
      throw new Error(`the server ended before it could ${what} (${error ?? signal ?? code}):\n${this.#output}`);
    });
    try {
      await within(Promise.race([told, ended]), () => `the server to ${what}; it wrote:\n${this.#output}`);
    } finally {
      for (const stream of streams) stream.off('data', look);
    }
  }

  /** Waits for the line that tells the address. */
  async listening() {
    const address = () => /(https?):\/\/127\.0\.0\.1:(\d+)/.exec(withoutColors(this.#output));
    await this.#writes(address, 'listen');
    const [, scheme, port] = address();
    this.port = Number(port);
    this.url = `${scheme}://127.0.0.1:${port}`;
  }

  /**
   * A client of this server; what it receives goes into its `inbox`.
   *
   * `client` is the `io` of one generation, and `url` where it finds the server.
   * The client does not reconnect unless asked to, since that would hide a cut.
   */
  connect({ client = io, namespace = '/', url = this.url, ...options } = {}) {
    const address = namespace === '/' ? url : url + namespace;
    return this.adopt(
      client(address, { path: '/ws', forceNew: true, reconnection: false, transports: ['websocket'], ...options }),
    );
  }

  /** Takes charge of a client made elsewhere: it gets an inbox, and is closed before the server stops. */
  adopt(socket) {
    socket.inbox = new Inbox(socket);
    secrets.holdThoseOf(socket);
    return this.keep(socket);
  }

  /** Takes charge of anything that has a `disconnect`. */
  keep(client) {
    this.#clients.add(client);
    return client;
  }

  /** A client that is connected and authenticated. */
  async agent(organization, { user = 'user_1', ...options } = {}) {
    const socket = this.connect(options);
    await connected(socket);
    const ack = await emitAck(socket, 'authenticate', { user_id: user, organization_id: organization });
    assert.equal(ack.success, true, `authenticate was refused: ${JSON.stringify(ack)}`);
    socket.publicId = ack.socket_id;
    return socket;
  }

  /** An agent that subscribed to these channels. */
  async subscriber(organization, subscription, options) {
    const socket = await this.agent(organization, options);
    socket.subscription = await subscribe(socket, subscription);
    return socket;
  }

  /** `POST /api/ws{path}`, as curl would send it. */
  publish(path, body, headers = {}) {
    return this.#call(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  }

  async #call(path, options) {
    const answer = await request(`${this.url}/api/ws${path}`, options);
    this.#answers.push(answer.text);
    return answer;
  }

  /** Publishes and expects that many recipients; returns the answer. */
  async reaches(recipients, path, body) {
    const { status, body: answer } = await this.publish(path, body);
    assert.equal(status, 200, `POST ${path}: ${status} ${JSON.stringify(answer)}`);
    assert.equal(answer.recipients_count, recipients, `recipients of ${path} ${JSON.stringify(body)}`);
    return answer;
  }

  /** `GET /api/ws{path}`. */
  get(path, headers = {}) {
    return this.#call(path, { headers });
  }

  /** Waits until the server lists exactly that many connections. */
  async holds(connections, query = '') {
    let last;
    await until(
      async () => {
        last = (await this.get(`/connections${query}`)).body;
        return last.total_count === connections;
      },
      () => `${connections} connections; the server lists ${JSON.stringify(last)}`,
    );
  }

  closeClients() {
    for (const socket of this.#clients) socket.disconnect();
    this.#clients.clear();
  }

  /** Sends a signal and expects a clean exit; the clients stay as they are. */
  terminate(signal = 'SIGTERM') {
    this.#stopped ??= this.#terminate(signal);
    return this.#stopped;
  }

  /** Ends it without a word to anybody; the clients stay as they are. */
  async kill() {
    this.#child.kill('SIGKILL');
    await this.#exited;
    this.#stopped ??= rm(this.#folder, { recursive: true, force: true });
  }

  async stop() {
    this.closeClients();
    await this.terminate();
  }

  async #terminate(signal) {
    this.#child.kill(signal);
    try {
      const end = await within(this.#exited, () => `the server to exit after ${signal}; it wrote:\n${this.#output}`);
      assert.equal(end.code, 0, `exit ${end.error ?? end.signal ?? end.code}; the server wrote:\n${this.#output}`);
      assert.ok(!this.#output.includes('panicked at'), `the server panicked:\n${this.#output}`);
      assert.equal(secrets.found(this.#output), undefined, 'a secret is in the log');
      assert.equal(secrets.found(this.#answers.join('\n')), undefined, 'a secret is in an answer of the API');
    } finally {
      this.#child.kill('SIGKILL');
      await rm(this.#folder, { recursive: true, force: true });
    }
  }
}

/** Everything one socket received, in order; each entry can be taken once. */
class Inbox {
  entries = [];
  #socket;
  #waiting = new Set();

  constructor(socket) {
    this.#socket = socket;
    onEveryEvent(socket, (event, args) => {
      this.entries.push({ event, args: args.filter((arg) => typeof arg !== 'function'), taken: false });
      for (const look of this.#waiting) look();
    });
  }

  /** The first argument of the next such event, already here or still to come. */
  async next(event, matches = () => true) {
    return (await this.nextEntry(event, matches)).args[0];
  }

  async nextEntry(event, matches = () => true) {
    const find = () => this.entries.find((e) => !e.taken && e.event === event && matches(e.args[0]));
    let look;
    const arrived = new Promise((resolve) => {
      look = () => find() && resolve();
      this.#waiting.add(look);
      look();
    });
    try {
      await within(arrived, () => `"${event}" on ${describe(this.#socket)}; it received ${this.summary()}`);
    } finally {
      this.#waiting.delete(look);
    }
    const entry = find();
    entry.taken = true;
    return entry;
  }

  /** The payloads of all events of this name so far. */
  all(event) {
    return this.entries.filter((e) => e.event === event).map((e) => e.args[0]);
  }

  /** Names of the catalogue events received so far, each form by itself: `kpi:update`, `message(kpi:update)`. */
  catalogue() {
    return this.entries
      .filter(({ event }) => event === 'message' || CATALOGUE.test(event))
      .map(({ event, args }) => (event === 'message' ? `message(${args[0].event})` : event));
  }

  summary() {
    return this.entries.map(({ event, args }) => `${event} ${JSON.stringify(args)}`.slice(0, 300)).join('\n') || 'nothing';
  }
}

const CATALOGUE = /^(kpi|backlog|attendance|alert|system|presence):/;

/** Version 2 has no `onAny`; its `onevent` sees every packet. */
function onEveryEvent(socket, listener) {
  if (typeof socket.onAny === 'function') {
    socket.onAny((event, ...args) => listener(event, args));
    return;
  }
  const deliver = socket.onevent;
  socket.onevent = function (packet) {
    const [event, ...args] = packet.data;
    listener(event, args);
    deliver.call(this, packet);
  };
}

function describe(socket) {
  return `socket ${socket.id ?? '(none)'} in ${socket.nsp} (${socket.connected ? 'connected' : 'not connected'})`;
}

/** The first argument of the next such event. */
export function once(socket, event, deadline = DEADLINE_MS) {
  return onceAll(socket, event, deadline).then(([first]) => first);
}

/** All arguments of the next such event. */
export function onceAll(socket, event, deadline = DEADLINE_MS) {
  let listener;
  const emitted = new Promise((resolve) => {
    listener = (...args) => resolve(args);
    socket.once(event, listener);
  });
  const seen = () => (socket.inbox ? `; it received ${socket.inbox.summary()}` : '');
  const waited = within(emitted, () => `"${event}" on ${describe(socket)}${seen()}`, deadline).finally(() =>
    socket.off(event, listener),
  );
  // A test that fails before it gets here must not fail a second time for this.
  waited.catch(() => {});
  return waited;
}

/** Waits until the socket is connected, and fails at once when it is refused. */
export async function connected(socket) {
  if (socket.connected) return;
  let accept, refuse;
  const settled = new Promise((resolve, reject) => {
    accept = resolve;
    refuse = (error) => reject(new Error(`${describe(socket)} was refused: ${error.message ?? error}`));
    socket.once('connect', accept);
    socket.once('connect_error', refuse);
  });
  try {
    await within(settled, () => `${describe(socket)} to connect`);
  } finally {
    socket.off('connect', accept);
    socket.off('connect_error', refuse);
  }
}

/** Emits with an acknowledgement callback and waits for it. */
export function emitAck(socket, event, payload, deadline = DEADLINE_MS) {
  const args = payload === undefined ? [] : [payload];
  const acked = new Promise((resolve) => socket.emit(event, ...args, resolve));
  return within(acked, () => `the ack of "${event}" on ${describe(socket)}; it received ${socket.inbox?.summary()}`, deadline);
}

/** Subscribes and expects success; returns the ack. */
export async function subscribe(socket, subscription) {
  const ack = await emitAck(socket, 'subscribe', subscription);
  assert.equal(ack.success, true, `subscribe was refused: ${JSON.stringify(ack)}`);
  return ack;
}

/** Polls what only HTTP can show. */
export async function until(predicate, what = () => 'a state to come about', deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  while (!(await predicate())) {
    if (Date.now() > end) throw new Error(`waited ${deadline} ms for ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Fails when the promise takes longer than the deadline. */
export function within(promise, what, deadline = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadline} ms for ${what()}`)), deadline);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * One HTTP request on a connection of its own.
 *
 * Not `fetch`: it forbids the headers that some tests forge, and keeps
 * connections open across servers that share a port.
 */
export function request(url, { method = 'GET', headers = {}, body } = {}) {
  const answered = new Promise((resolve, reject) => {
    // A test that is about certificates looks at them itself.
    const options = { method, headers, agent: false, rejectUnauthorized: false };
    const req = (url.startsWith('https') ? https : http).request(url, options, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const bytes = Buffer.concat(chunks);
        const text = bytes.toString('utf8');
        secrets.holdThatOf(text);
        const json = (res.headers['content-type'] ?? '').startsWith('application/json');
        resolve({ status: res.statusCode, headers: res.headers, bytes, text, body: json && text ? JSON.parse(text) : text });
      });
    });
    req.on('error', reject);
    req.end(body);
  });
  return within(answered, () => `an answer to ${method} ${url}`);
}

/** The test's own environment must not configure the server. */
function cleanEnvironment() {
  const ours = ([name]) => !name.startsWith('TIERCAST__') && !name.startsWith('WEBSOCKET_');
  return { ...Object.fromEntries(Object.entries(process.env).filter(ours)), RUST_BACKTRACE: '1' };
}

/** Escape sequences of terminals, in one pattern for all tools. */
export function withoutColors(text) {
  return text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '');
}

/** Sections of scalars, lists, sub-sections and lists of sections: all that a config needs. */
function toToml(table, prefix = '') {
  const isTable = (value) => typeof value === 'object' && !Array.isArray(value);
  const isTables = (value) => Array.isArray(value) && value.length > 0 && value.every(isTable);
  const entries = Object.entries(table);
  const scalars = entries.filter(([, value]) => !isTable(value) && !isTables(value));
  let text = scalars.map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join('');
  for (const [key, value] of entries) {
    const name = prefix + key;
    if (isTable(value)) text += `\n[${name}]\n${toToml(value, `${name}.`)}`;
    if (isTables(value)) for (const item of value) text += `\n[[${name}]]\n${toToml(item, `${name}.`)}`;
  }
  return text;
}
