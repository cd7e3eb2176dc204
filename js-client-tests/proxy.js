// A box between clients and a server that lets polling pass and does something to WebSockets.
//
// Clients open an upgrade on a connection of its own, so the first head of a
// connection tells what it is for. A proxy emits `broken` when it has done its
// harm to an upgrade, and `gone` when the server has closed its end of one.

import { EventEmitter } from 'node:events';
import net from 'node:net';

const HEAD_END = '\r\n\r\n';
const PROBE_ANSWER = '3probe';

/**
 * A proxy of its own port in front of a server, closed when the test ends.
 *
 * `hold` gets the session id of an upgrade and keeps its request back until it
 * resolves; `latency_ms` is how much later the bytes of a WebSocket arrive,
 * each way; `breakage` is one of `breakages`.
 */
export async function openProxy(t, server, options = {}) {
  const proxy = new UpgradeProxy(server.port, options);
  await proxy.listen();
  t.after(() => proxy.close());
  return proxy;
}

class UpgradeProxy extends EventEmitter {
  #port;
  #sockets = new Set();
  #down = false;
  #listener = net.createServer((client) => this.#accept(client));

  constructor(port, { hold = () => {}, latency_ms = 0, breakage = passOn } = {}) {
    super();
    this.#port = port;
    this.hold = hold;
    this.latency_ms = latency_ms;
    this.breakage = breakage;
  }

  async listen() {
    await new Promise((resolve) => this.#listener.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.#listener.address().port}`;
  }

  /** From now on WebSockets pass. */
  mend() {
    this.breakage = passOn;
  }

  /** Ends every connection at once, without a word; until `restore` new ones end like that too. */
  cut() {
    this.#down = true;
    for (const socket of this.#sockets) breakOff(socket);
  }

  /** From now on connections pass. */
  restore() {
    this.#down = false;
  }

  async close() {
    const closed = new Promise((resolve) => this.#listener.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #accept(client) {
    this.#keep(client);
    if (this.#down) return breakOff(client);
    const head = await readHead(client);
    const text = head.toString('latin1');
    if (!/^upgrade: *websocket/im.test(text)) {
      const upstream = this.#connect(client);
      upstream.write(head);
      client.pipe(upstream).pipe(client);
      return;
    }
    await this.hold(/[?&]sid=([^& ]*)/.exec(text)?.[1]);
    if (client.destroyed) return;
    this.breakage({
      client,
      broken: () => this.emit('broken'),
      latency_ms: this.latency_ms,
      /** Sends the request on and returns the connection to the server. */
      send: () => {
        const upstream = this.#connect(client);
        upstream.once('close', () => this.emit('gone'));
        upstream.write(head);
        return upstream;
      },
    });
  }

  /** The server's end; it closes when the client's does, and the other way about. */
  #connect(client) {
    const upstream = net.connect(this.#port, '127.0.0.1');
    this.#keep(upstream);
    client.once('close', () => upstream.destroy());
    upstream.once('close', () => client.destroySoon());
    return upstream;
  }

  #keep(socket) {
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    // Whatever happens to one end shows at the other as a close.
    socket.on('error', () => {});
  }
}

/** Ends a connection without a word; one that is ending already cannot be reset, and would stay open half. */
function breakOff(socket) {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** The first head of a connection, and what came with it. */
function readHead(client) {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    client.on('data', function look(chunk) {
      head = Buffer.concat([head, chunk]);
      if (!head.includes(HEAD_END)) return;
      client.off('data', look);
      client.pause();
      resolve(head);
    });
  });
}

function passOn({ client, latency_ms, send }) {
  const upstream = send();
  // Without a timer the last bytes are never behind the end.
  if (latency_ms === 0) return client.pipe(upstream).pipe(client);
  later(client, upstream, latency_ms);
  later(upstream, client, latency_ms);
}

/** Timers of one length end in the order they began, so no byte overtakes another. */
function later(from, to, latency_ms) {
  from.on('data', (chunk) => setTimeout(() => to.write(chunk), latency_ms));
  from.on('end', () => setTimeout(() => to.end(), latency_ms));
  from.resume();
}

function answer(status) {
  return ({ client, broken }) => {
    client.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    broken();
  };
}

function swallowWhatTheClientSends({ client, broken, send }) {
  send().pipe(client);
  client.once('data', broken);
  client.resume();
}

function swallowWhatTheServerSends({ client, broken, send }) {
  const upstream = send();
  client.pipe(upstream);
  upstream.once('data', (switching) => {
    client.write(switching);
    upstream.once('data', broken);
  });
}

function closeAfterSwitching({ client, broken, send }) {
  const upstream = send();
  upstream.once('data', (switching) => {
    client.end(switching);
    upstream.end();
    broken();
  });
}

/** `passes` says whether the client sees the answer to its probe. */
function closeAfterProbe(passes) {
  return ({ client, broken, send }) => {
    const upstream = send();
    client.pipe(upstream);
    upstream.on('data', function look(chunk) {
      const answered = chunk.includes(PROBE_ANSWER);
      if (!answered || passes) client.write(chunk);
      if (!answered) return;
      upstream.off('data', look);
      client.end();
      upstream.end();
      broken();
    });
  };
}

export const breakages = {
  answer400: answer('400 Bad Request'),
  answer502: answer('502 Bad Gateway'),
  swallowWhatTheClientSends,
  swallowWhatTheServerSends,
  closeAfterSwitching,
  closeBeforeProbeAnswer: closeAfterProbe(false),
  closeBehindProbeAnswer: closeAfterProbe(true),
};
