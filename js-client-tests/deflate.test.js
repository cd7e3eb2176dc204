// permessage-deflate: agreed with Node's own WebSocket client and with Chromium, worth its bytes, and bounded.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import WebSocket from 'ws';
import { openPage } from './browser.js';
import { startServer, once, within } from './harness.js';

const OPEN = '/ws/?EIO=4&transport=websocket';

async function open(server, options) {
  const socket = new WebSocket(server.url.replace('http', 'ws') + OPEN, options);
  socket.messages = [];
  socket.on('message', (data) => {
    const text = data.toString();
    if (text === '2') socket.send('3');
    socket.messages.push(text);
  });
  await once(socket, 'open');
  return socket;
}

/** The first message that begins so, from now on or already there. */
function message(socket, start) {
  const there = socket.messages.find((text) => text.startsWith(start));
  if (there) return there;
  return new Promise((resolve, reject) => {
    socket.on('message', (data) => data.toString().startsWith(start) && resolve(data.toString()));
    socket.on('close', (code) => reject(new Error(`closed with ${code} before ${start}`)));
  });
}

test('a client that offers permessage-deflate gets it, and large messages shrink both ways', async (t) => {
  const server = await startServer(t);
  const socket = await open(server);
  assert.match(socket.extensions, /permessage-deflate/);
  socket.send('40{"user_id":"ann","organization_id":"acme"}');
  await message(socket, '42["connected"');
  const text = JSON.stringify(Array.from({ length: 500 }, (_, n) => ({ agent: `agent-${n}`, state: 'available' })));
  const [read, written] = [socket._socket.bytesRead, socket._socket.bytesWritten];
  socket.send(`421["client:ping",{"timestamp":${JSON.stringify(text)}}]`);
  const answer = JSON.parse((await message(socket, '431')).slice(3));
  assert.equal(answer[0].timestamp, text);
  assert.ok(socket._socket.bytesRead - read < text.length / 3, `${socket._socket.bytesRead - read} bytes came`);
  assert.ok(socket._socket.bytesWritten - written < text.length / 3, `${socket._socket.bytesWritten - written} bytes went`);

  const before = socket._socket.bytesRead;
  await server.reaches(1, '/broadcast/kpi', { organization_id: 'acme', note: text });
  assert.equal(JSON.parse((await message(socket, '42["kpi:update"')).slice(2))[1].note, text);
  assert.equal(JSON.parse((await message(socket, '42["message"')).slice(2))[1].data.note, text);
  assert.ok(socket._socket.bytesRead - before < text.length, 'both forms together are smaller than one plain');
  socket.close();
});

test('messages of every size, fragmented and binary, arrive as they were sent', async (t) => {
  const server = await startServer(t, { config: { limits: { rate_limit_messages_per_second: 100_000 } } });
  const socket = await open(server);
  socket.send('40{"user_id":"ann","organization_id":"acme"}');
  await message(socket, '42["connected"');
  let id = 0;
  for (const size of [0, 1, 125, 126, 1_023, 1_024, 5_000, 65_535, 65_536, 300_000, 1_000_000]) {
    const text = 'abcdefghij'.repeat(Math.ceil(size / 10)).slice(0, size);
    id += 1;
    const event = `42${id}["client:ping",{"timestamp":"${text}"}]`;
    if (size % 2) {
      const half = Math.floor(event.length / 2);
      socket.send(event.slice(0, half), { fin: false });
      socket.ping();
      socket.send(event.slice(half), { fin: true });
    } else {
      socket.send(event);
    }
    assert.equal(JSON.parse((await message(socket, `43${id}[`)).slice(2 + String(id).length))[0].timestamp, text, `${size}`);
  }
  socket.send('451-99["client:ping",{"_placeholder":true,"num":0}]');
  socket.send(Buffer.alloc(5_000, 'z'));
  assert.equal(JSON.parse((await message(socket, '4399[')).slice(4))[0].code, 'INVALID_MESSAGE');
  socket.close();
});

test('a client that does not offer it, or a server that does not want it, goes without', async (t) => {
  const server = await startServer(t);
  assert.equal((await open(server, { perMessageDeflate: false })).extensions, '');
  const narrow = await open(server, { perMessageDeflate: { serverMaxWindowBits: 10 } });
  assert.equal(narrow.extensions, '', 'a smaller window of ours is declined');
  const without = await startServer(t, { config: { compression: { compression_enabled: false } } });
  assert.equal((await open(without)).extensions, '');
});

test('a compressed bomb closes with 1009 and costs bounded memory', async (t) => {
  const server = await startServer(t);
  const peak = async () => Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${server.pid}/status`, 'utf8'))[1]);
  const before = await peak();
  for (let n = 0; n < 5; n += 1) {
    const socket = await open(server);
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    socket.send(Buffer.alloc(50_000_000, 'z').toString());
    assert.equal(await closed, 1009);
  }
  assert.ok((await peak()) - before < 32_000, `${(await peak()) - before} kB more`);
});

test('damaged compressed data closes with 1007', async (t) => {
  const server = await startServer(t);
  const socket = await open(server);
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  // A text frame that says it is compressed, masked with zeros, and is not.
  socket._socket.write(Buffer.from([0xc1, 0x83, 0, 0, 0, 0, 0xff, 0xff, 0xff]));
  assert.equal(await closed, 1007);
});

const SIZES = [0, 1, 125, 126, 127, 1_000, 1_023, 1_024, 1_025, 65_535, 65_536, 1_000_000];

/** Text of that many bytes, with letters of one to four. */
function textOf(size) {
  const text = Buffer.from('agent Zoë 待ち行列 📈 '.repeat(Math.ceil(size / 10))).subarray(0, size).toString();
  // A letter that was cut in half has become another one.
  const whole = text.replace(/\ufffd+$/, '');
  return whole + 'x'.repeat(size - Buffer.byteLength(whole));
}

/** A page that the server itself has answered: a made-up one may not open WebSockets to this machine. */
async function openPageOf(t, server) {
  // No page of the server runs scripts of others.
  const page = await openPage(t, { bypassCSP: true });
  await page.goto(`${server.url}/livez`);
  await page.evaluate(keepInPage);
  return page;
}

/** Keeps what a page receives until it is taken: it may come before somebody waits for it. */
function keepInPage() {
  const came = [];
  let taker;
  window.keep = (message) => {
    if (!taker) return came.push(message);
    taker(message);
    taker = undefined;
  };
  window.take = () => came.shift() ?? new Promise((resolve) => (taker = resolve));
}

/** Sends text of every size up and down; `up` runs in the page and resolves to what came back. */
async function bothWays(server, page, up) {
  const evaluate = (...call) => within(page.evaluate(...call), () => `the page; it says ${page.faults}`);
  for (const size of SIZES) {
    const text = textOf(size);
    assert.equal(Buffer.byteLength(text), size);
    // `equal` would print a megabyte.
    assert.ok((await evaluate(up, text)) === text, `${size} bytes up`);
    await server.reaches(1, '/broadcast/kpi', { organization_id: 'acme', note: text });
    assert.ok((await evaluate(() => window.take())) === text, `${size} bytes down`);
  }
}

const identity = { user_id: 'ann', organization_id: 'acme', forms: 'named' };

test('a WebSocket of Chromium agrees on it, and messages of every size arrive as they were sent', async (t) => {
  const server = await startServer(t);
  const page = await openPageOf(t, server);
  const opening = page.evaluate(
    ([url, identity]) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(url);
        window.socket = socket;
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
        socket.onmessage = ({ data }) => {
          if (data === '2') socket.send('3');
          if (data.startsWith('0')) socket.send(`40${JSON.stringify(identity)}`);
          if (data.startsWith('42["connected"')) resolve(socket.extensions);
          if (data.startsWith('42["kpi:update"')) window.keep(JSON.parse(data.slice(2))[1].note);
          if (data.startsWith('431[')) window.answered(JSON.parse(data.slice(3))[0].timestamp);
        };
      }),
    [server.url.replace('http', 'ws') + OPEN, identity],
  );
  assert.match(await within(opening, () => 'the page to connect'), /^permessage-deflate/);
  await bothWays(server, page, (text) => {
    const answer = new Promise((resolve) => (window.answered = resolve));
    window.socket.send(`421["client:ping",{"timestamp":${JSON.stringify(text)}}]`);
    return answer;
  });
});

test('the official client in Chromium agrees on it when it upgrades, and loses nothing', async (t) => {
  const server = await startServer(t);
  const page = await openPageOf(t, server);
  await page.addScriptTag({ url: `${server.url}/ws/socket.io.js` });
  const upgrading = page.evaluate(
    (auth) =>
      new Promise((resolve, reject) => {
        window.socket = window.io({ path: '/ws', auth });
        window.socket.on('connect_error', reject);
        window.socket.on('disconnect', (reason) => reject(new Error(reason)));
        window.socket.on('kpi:update', ({ note }) => window.keep(note));
        window.socket.io.engine.on('upgrade', (transport) => resolve(transport.ws.extensions));
      }),
    identity,
  );
  assert.match(await within(upgrading, () => 'the page to be upgraded'), /^permessage-deflate/);
  await bothWays(server, page, async (text) => {
    const { timestamp } = await window.socket.timeout(5_000).emitWithAck('client:ping', { timestamp: text });
    return timestamp;
  });
});
