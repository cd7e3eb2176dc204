// The upgrade from polling to a WebSocket: under load, over ways that break WebSockets, and by hand.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import test, { describe } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';
import { clients, transportOf } from './clients.js';
import { connected, emitAck, once, request, startServer, subscribe, until, within } from './harness.js';
import { kpi } from './payloads.js';
import { breakages, openProxy } from './proxy.js';

const upgrading = clients.filter(({ upgrades }) => upgrades);
const [stock] = upgrading;
const v2 = upgrading.find(({ eio }) => eio === 3);

/** Longer than the ten seconds that a probe may take. */
const PROBE_DEADLINE_MS = 15_000;

/** Shorter than those: what must not wait for a probe to be given up. */
const SOON_MS = 5_000;

async function joinKpi(socket) {
  await connected(socket);
  const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
  assert.equal(ack.success, true, JSON.stringify(ack));
  socket.publicId = ack.socket_id;
  await subscribe(socket, { channels: ['kpi'] });
}

// --- Order ---

const LATENCY_MS = 25;
const DELAY_MS = 700;
const ON_POLLING = 20;
const ON_WEBSOCKET = 50;

/** Publishes numbers one after another, so that there is one order, until it is stopped. */
class Publisher {
  count = 0;
  #running = true;
  #ended;

  constructor(server) {
    const run = async () => {
      while (this.#running) {
        const { status } = await server.publish('/broadcast/kpi', { organization_id: 'acme', n: this.count });
        assert.equal(status, 200);
        this.count += 1;
      }
    };
    this.#ended = run();
    // It is `stop` that tells of a failure; a test that fails first ends with its server.
    this.#ended.catch(() => {});
  }

  stop() {
    this.#running = false;
    return this.#ended;
  }
}

/** What one client received, and how far it had come when it was upgraded. */
class Witness {
  frames = [];
  upgraded = false;
  #enough;
  onPolling = new Promise((resolve) => (this.#enough = resolve));

  constructor(name, socket, publisher) {
    this.name = name;
    this.socket = socket;
    this.publisher = publisher;
    socket.on('disconnect', (reason) => (this.cut = reason));
    socket.on('kpi:update', ({ n }) => this.#take('kpi:update', n));
    socket.on('message', ({ data }) => this.#take('message', data.n));
    socket.io.engine.once('upgrade', () => {
      this.upgraded = true;
      this.polled = this.frames.length;
      this.inBetween = publisher.count - (this.last() + 1);
    });
  }

  #take(event, n) {
    this.frames.push({ event, n });
    if (this.subscribed !== undefined && n >= this.subscribed + ON_POLLING) this.#enough();
  }

  last() {
    return this.frames.at(-1)?.n;
  }

  async join() {
    await joinKpi(this.socket);
    this.subscribed = this.publisher.count;
  }

  /** Both forms of every number, in order, from the subscription to the end. */
  assertWhole(last) {
    const first = this.frames[0].n;
    assert.ok(first <= this.subscribed, `${this.name} begins with ${first}, and had subscribed by ${this.subscribed}`);
    const wrong = this.frames.findIndex(
      ({ event, n }, at) => event !== (at % 2 ? 'message' : 'kpi:update') || n !== first + Math.floor(at / 2),
    );
    const around = JSON.stringify(this.frames.slice(Math.max(0, wrong - 4), wrong + 4));
    assert.equal(wrong, -1, `${this.name}, frame ${wrong}, upgraded at ${this.polled}: ${around}`);
    assert.equal(this.last(), last, this.name);
  }
}

test('70 clients that upgrade under load lose, double and reorder nothing', async (t) => {
  const server = await startServer(t);
  const witnesses = [];
  const proxy = await openProxy(t, server, {
    latency_ms: LATENCY_MS,
    // The delay is the network's; that events come over polling meanwhile is made sure of.
    hold: async (sid) => {
      await pause(DELAY_MS);
      await witnesses.find(({ socket }) => socket.io.engine.id === sid).onPolling;
    },
  });

  const publisher = new Publisher(server);
  const generations = [...Array(60).fill(stock), ...Array(10).fill(v2)];
  for (const [index, { name, options }] of generations.entries()) {
    const socket = server.connect({ ...options, url: proxy.url });
    witnesses.push(new Witness(`${name}, number ${index}`, socket, publisher));
  }
  await Promise.all(witnesses.map((witness) => witness.join()));
  await until(() => witnesses.every(({ upgraded }) => upgraded), () => 'everyone to be upgraded', 60_000);
  const allUpgraded = publisher.count;
  await until(() => publisher.count >= allUpgraded + ON_WEBSOCKET);
  await publisher.stop();

  const last = publisher.count - 1;
  const late = () => witnesses.filter((witness) => witness.frames.at(-1).n !== last || witness.frames.at(-1).event !== 'message');
  await until(() => late().length === 0, () => `number ${last}; not there yet: ${late().map(({ name }) => name)}`);
  for (const witness of witnesses) {
    assert.equal(witness.cut, undefined, witness.name);
    assert.equal(transportOf(witness.socket), 'websocket', witness.name);
    assert.ok(witness.polled >= 2 * ON_POLLING, `${witness.name} received only ${witness.polled} frames on polling`);
    witness.assertWhole(last);
  }
  const seams = witnesses.map(({ inBetween }) => inBetween);
  t.diagnostic(`${publisher.count} published; in between polling and WebSocket: ${seams}`);
  assert.ok(seams.filter((events) => events > 0).length > witnesses.length / 10, `published in between: ${seams}`);

  const { connections } = (await server.get('/connections')).body;
  assert.equal(connections.length, witnesses.length);
  assert.deepEqual(new Set(connections.map(({ transport }) => transport)), new Set(['websocket']));
  server.closeClients();
  await isEmpty(server);
});

// --- Ways that break WebSockets ---

/** Short, so that a test sees the heartbeats that a session has to live through. */
const heartbeat = { ping_interval_ms: 300, ping_timeout_ms: 2_000 };

/** Nobody is counted, and no socket is listed. */
async function isEmpty(server) {
  let seen;
  await until(
    async () => {
      const { stats } = (await server.get('/stats')).body;
      const { total_count } = (await server.get('/connections')).body;
      const { total_connections, active_connections, connections_by_org } = stats;
      seen = { total_connections, active_connections, connections_by_org, total_count };
      return total_connections === 0 && active_connections === 0 && total_count === 0 && !connections_by_org.acme;
    },
    () => `nothing to be left; the server counts ${JSON.stringify(seen)}`,
    SOON_MS,
  );
}


/** A client behind a proxy; `cuts` are the reasons of its disconnects. */
function behind(proxy, server, { options, eio }, more = {}) {
  const socket = server.connect({ ...options, ...more, url: proxy.url });
  socket.eio = eio;
  socket.cuts = [];
  socket.on('disconnect', (reason) => socket.cuts.push(reason));
  return socket;
}

/** Waits for two heartbeats: version 3 of Engine.IO has its clients ping, version 4 its servers. */
async function beats(socket) {
  let heard = 0;
  const count = ({ type }) => (heard += type === (socket.eio === 3 ? 'pong' : 'ping'));
  socket.io.engine.on('packet', count);
  await until(() => heard >= 2, () => `two heartbeats; ${heard} came`);
  socket.io.engine.off('packet', count);
}

/** The session is what it was, over polling: in both directions, and through heartbeats. */
async function worksOnPolling(server, socket) {
  const { id } = socket;
  const before = socket.inbox.all('kpi:update').length;
  for (let n = before; n < before + 10; n += 1) {
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { n }));
    await socket.inbox.next('kpi:update', (payload) => payload.n === n);
    await socket.inbox.next('message', ({ data }) => data.n === n);
    assert.equal((await emitAck(socket, 'client:ping', { timestamp: n })).timestamp, n);
  }
  await beats(socket);

  assert.deepEqual(socket.cuts, []);
  assert.equal(socket.connected, true);
  assert.equal(socket.id, id);
  assert.equal(transportOf(socket), 'polling');
  assert.deepEqual(await listed(server), [{ socket_id: socket.publicId, transport: 'polling' }]);
}

async function listed(server) {
  const { connections } = (await server.get('/connections')).body;
  return connections.map(({ socket_id, transport }) => ({ socket_id, transport }));
}

const failing = [
  ['answers 400', breakages.answer400],
  ['answers 502', breakages.answer502],
  ['closes right after 101', breakages.closeAfterSwitching],
  ['closes instead of passing the answer to the probe on', breakages.closeBeforeProbeAnswer],
];
const swallowing = [
  ['swallows what the client sends', breakages.swallowWhatTheClientSends],
  ['swallows what the server sends', breakages.swallowWhatTheServerSends],
];

for (const generation of upgrading) {
  for (const [what, breakage] of failing) {
    test(`${generation.name} stays on polling behind a proxy that ${what}`, async (t) => {
      const server = await startServer(t, { config: { heartbeat } });
      const proxy = await openProxy(t, server, { breakage });
      const broken = once(proxy, 'broken');
      const socket = behind(proxy, server, generation);
      const failed = once(socket.io.engine, 'upgradeError');
      await joinKpi(socket);
      await Promise.all([broken, failed]);
      await worksOnPolling(server, socket);
      socket.disconnect();
      await isEmpty(server);
    });
  }

  for (const [what, breakage] of swallowing) {
    test(`${generation.name} comes, works and goes within a probe that never ends: a proxy ${what}`, async (t) => {
      const server = await startServer(t, { config: { heartbeat } });
      const proxy = await openProxy(t, server, { breakage });
      const broken = once(proxy, 'broken');
      const socket = behind(proxy, server, generation);
      await joinKpi(socket);
      await broken;
      await worksOnPolling(server, socket);
      socket.disconnect();
      await isEmpty(server);
    });
  }

  // A stock client that has the answer to its probe stops polling for good, whatever becomes of the WebSocket.
  test(`${generation.name} comes back when the WebSocket closes behind the answer to its probe`, async (t) => {
    const server = await startServer(t, { config: { heartbeat } });
    const proxy = await openProxy(t, server, { breakage: breakages.closeBehindProbeAnswer });
    proxy.once('broken', () => proxy.mend());
    const socket = behind(proxy, server, generation, { reconnection: true, reconnectionDelay: 10 });
    const cut = once(socket, 'disconnect');
    await connected(socket);
    await cut;
    await joinKpi(socket);
    await until(() => transportOf(socket) === 'websocket');
    await until(async () => (await server.get('/stats')).body.stats.total_connections === 1);
    // The client has gone over before the server has read that it does.
    await until(async () => (await listed(server)).some(({ transport }) => transport === 'websocket'));
    assert.deepEqual(await listed(server), [{ socket_id: socket.publicId, transport: 'websocket' }]);
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { n: 1 }));
    await socket.inbox.next('kpi:update', ({ n }) => n === 1);
    socket.disconnect();
    await isEmpty(server);
  });
}

test('many broken upgrades leave neither connections nor sockets behind', async (t) => {
  const server = await startServer(t);
  const openFiles = async () => (await readdir(`/proc/${server.pid}/fd`)).length;
  const before = await openFiles();
  const each = 10;
  const proxies = [];
  for (const [, breakage] of [...failing, ...swallowing]) {
    const proxy = await openProxy(t, server, { breakage });
    proxies.push(proxy);
    let broken = 0;
    proxy.on('broken', () => (broken += 1));
    const sockets = Array.from({ length: each }, () => behind(proxy, server, stock));
    await Promise.all(sockets.map(joinKpi));
    await until(() => broken === each, () => `${each} broken upgrades; ${broken} are`);
  }
  const { total_connections, active_connections } = (await server.get('/stats')).body.stats;
  assert.deepEqual({ total_connections, active_connections }, { total_connections: 60, active_connections: 60 });
  server.closeClients();
  await isEmpty(server);
  await Promise.all(proxies.map((proxy) => proxy.close()));
  let open;
  await until(async () => (open = await openFiles()) <= before, () => `${before} open files; ${open} are`, SOON_MS);
});

// --- By hand ---

/** A session on polling that is authenticated and has fetched everything that was said to it. */
async function openSession(server, { eio = 4 } = {}) {
  const session = new Session(server, eio);
  await session.open();
  return session;
}

class Session {
  #server;
  #eio;
  #url;
  #asked = 0;

  constructor(server, eio) {
    this.#server = server;
    this.#eio = eio;
    this.#url = `${server.url}/ws/?EIO=${eio}&transport=polling`;
  }

  async open() {
    const [opened] = await this.poll();
    this.sid = JSON.parse(opened.slice(1)).sid;
    this.#url += `&sid=${this.sid}`;
    // Version 3 is in the main namespace unasked.
    if (this.#eio === 4) await this.post('40');
    const hello = await this.pollFor('42["connected"');
    this.publicId = JSON.parse(hello.slice(2))[1].socket_id;
    await this.post('420["authenticate",{"user_id":"user_1","organization_id":"acme"}]');
    await this.pollFor('430[');
  }

  async post(packet) {
    const body = this.#eio === 3 ? `${packet.length}:${packet}` : packet;
    const { status, text } = await request(this.#url, { method: 'POST', headers: { 'content-type': 'text/plain' }, body });
    assert.equal(`${status} ${text}`, '200 ok');
  }

  /** The packets of one poll. */
  async poll() {
    const { status, text } = await request(this.#url);
    assert.equal(status, 200, text);
    return this.#eio === 4 ? text.split('\u001e') : [...packetsOfVersion3(text)];
  }

  /** Polls until a packet begins so. */
  pollFor(start) {
    const seen = [];
    const find = async () => {
      for (;;) {
        const packets = await this.poll();
        seen.push(...packets);
        if (packets.includes('2')) await this.post('3');
        const found = packets.find((packet) => packet.startsWith(start));
        if (found) return found;
        assert.ok(!packets.includes('1'), `closed before ${start}: ${seen}`);
      }
    };
    return within(find(), () => `${start}; polled ${seen}`);
  }

  /** A ping over polling, and its answer. */
  async ask() {
    const id = (this.#asked += 1);
    await this.post(`42${id}["client:ping",{}]`);
    return JSON.parse((await this.pollFor(`43${id}[`)).slice(2 + String(id).length))[0];
  }

  async openWebSocket() {
    const url = `${this.#server.url.replace('http', 'ws')}/ws/?EIO=${this.#eio}&transport=websocket&sid=${this.sid}`;
    const socket = new WebSocket(url);
    socket.inbox = [];
    socket.on('message', (data) => socket.inbox.push(data.toString()));
    const opened = new Promise((resolve, reject) => socket.once('open', resolve).on('error', reject));
    await within(opened, () => 'a WebSocket to open');
    return socket;
  }

  /** A WebSocket whose probe is answered and not finished. */
  async probe() {
    const socket = await this.openWebSocket();
    socket.send('2probe');
    assert.equal(await receive(socket), '3probe');
    return socket;
  }
}

/** `<length>:<packet>`, again and again. */
function* packetsOfVersion3(payload) {
  while (payload) {
    const start = payload.indexOf(':') + 1;
    const end = start + Number(payload.slice(0, start - 1));
    yield payload.slice(start, end);
    payload = payload.slice(end);
  }
}

/** The next message of a WebSocket. */
async function receive(socket) {
  await until(() => socket.inbox.length > 0, () => 'a message');
  return socket.inbox.shift();
}

test('a WebSocket that says something else than a probe is closed, and the session lives on', async (t) => {
  const server = await startServer(t);
  const session = await openSession(server);
  for (const words of [['5'], ['2'], ['42["client:ping",{}]'], ['2probe', '42["client:ping",{}]'], ['2probe', '2probe'], ['1']]) {
    const socket = await session.openWebSocket();
    const closed = once(socket, 'close');
    for (const word of words) socket.send(word);
    await closed;
    assert.equal((await session.ask()).pong, true, `${words}`);
  }
  assert.deepEqual(await listed(server), [{ socket_id: session.publicId, transport: 'polling' }]);
  await session.post('1');
  await isEmpty(server);
});

// Together, since each of them waits for the ten seconds that a probe may take.
describe('a probe that never ends is given up', { concurrency: true }, () => {
  for (const generation of [stock, v2]) {
    for (const [what, breakage] of swallowing) {
      test(`${generation.name} works on behind a proxy that ${what}`, async (t) => {
        const server = await startServer(t, { config: { heartbeat } });
        const proxy = await openProxy(t, server, { breakage });
        const gone = once(proxy, 'gone', PROBE_DEADLINE_MS);
        const socket = behind(proxy, server, generation);
        await joinKpi(socket);
        await gone;
        await worksOnPolling(server, socket);
        socket.disconnect();
        await isEmpty(server);
      });
    }
  }

  test('a WebSocket that was only opened is closed, and the session lives on', async (t) => {
    const server = await startServer(t);
    const session = await openSession(server);
    const socket = await session.openWebSocket();
    await once(socket, 'close', PROBE_DEADLINE_MS);
    assert.equal((await session.ask()).pong, true);
  });

  test('of several WebSockets that probe, the first to say so takes the session over', async (t) => {
    const server = await startServer(t);
    const session = await openSession(server);
    const [first, second, silent] = [await session.probe(), await session.probe(), await session.probe()];
    const closed = [second, silent].map((socket) => once(socket, 'close', PROBE_DEADLINE_MS));

    // What comes right behind belongs to the session already.
    first.send('5');
    first.send('421["client:ping",{"timestamp":"first"}]');
    const answer = await receive(first);
    assert.match(answer, /^431\[/);
    assert.equal(JSON.parse(answer.slice(3))[0].timestamp, 'first');

    // Too late: nothing that the others say is heard.
    second.send('5');
    second.send('42["client:ping",{"timestamp":"second"}]');
    await closed[0];
    first.send('422["client:ping",{"timestamp":"still"}]');
    assert.equal(JSON.parse((await receive(first)).slice(3))[0].timestamp, 'still');

    await server.reaches(1, '/broadcast/kpi', kpi('acme', { n: 1 }));
    assert.match(await receive(first), /^42\["kpi:update",/);
    assert.match(await receive(first), /^42\["message",/);
    assert.deepEqual(await listed(server), [{ socket_id: session.publicId, transport: 'websocket' }]);

    await closed[1];
    assert.equal(first.readyState, WebSocket.OPEN);
    assert.deepEqual([first.inbox, second.inbox, silent.inbox], [[], [], []]);
    first.send('423["client:ping",{}]');
    assert.match(await receive(first), /^433\[/);
    first.close();
    await isEmpty(server);
  });
});

const beginnings = [
  ['a WebSocket that was only opened', (session) => session.openWebSocket()],
  ['a probe that was answered', (session) => session.probe()],
];
const endings = [
  [
    'DELETE',
    async (session, server) => {
      const told = session.pollFor('41');
      const { status } = await request(`${server.url}/api/ws/connections/${session.publicId}`, { method: 'DELETE' });
      assert.equal(status, 200);
      await told;
    },
  ],
  ['its close packet', (session) => session.post('1')],
  ['its silence', () => {}],
];

describe('a session that ends beside a probe leaves nothing', { concurrency: true }, () => {
  for (const eio of [4, 3]) {
    for (const [beside, begin] of beginnings) {
      for (const [what, end] of endings) {
        test(`a session on version ${eio}, by ${what}, beside ${beside}`, async (t) => {
          const server = await startServer(t, { config: { heartbeat } });
          const session = await openSession(server, { eio });
          const socket = await begin(session);
          const closed = once(socket, 'close', PROBE_DEADLINE_MS);
          await end(session, server);
          await isEmpty(server);
          await closed;
        });
      }
    }
  }

  // A session that is dismissed stays for the time that its client has to fetch the farewell.
  for (const [what, end] of endings.slice(1)) {
    test(`a session that ended by ${what} beside a probe takes no further one`, async (t) => {
      const server = await startServer(t, { config: { heartbeat } });
      const session = await openSession(server);
      await session.probe();
      await end(session, server);
      await server.holds(0);
      await assert.rejects(session.openWebSocket(), /400/);
    });
  }
});
