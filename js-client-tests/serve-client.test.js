// The official browser client, served beside the Socket.IO door.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import vm from 'node:vm';
import WebSocket from 'ws';
import { openPage } from './browser.js';
import { connected, emitAck, request, startServer } from './harness.js';

const FOLDERS = ['/ws', '/socket.io'];
const FILES = ['socket.io.js', 'socket.io.min.js', 'socket.io.esm.min.js', 'socket.io.msgpack.min.js'];

/** Fetches a file that must be there; a build without the bundle answers with a hint instead. */
async function download(server, path, headers) {
  const answer = await request(server.url + path, { headers });
  assert.notEqual(answer.status, 404, `${path}: ${answer.text}`);
  return answer;
}

for (const folder of FOLDERS) {
  test(`${folder} serves the official client with an entity tag`, async (t) => {
    const server = await startServer(t);
    const installed = JSON.parse(await readFile(new URL('./node_modules/socket.io-client/package.json', import.meta.url)));
    for (const file of FILES) {
      const answer = await download(server, `${folder}/${file}`);
      assert.equal(answer.status, 200, file);
      assert.match(answer.headers['content-type'], /^(application|text)\/javascript; charset=utf-8$/, file);
      assert.match(answer.headers.etag, /^(W\/)?"[^"]+"$/, file);
      assert.ok(answer.text.includes(`Socket.IO v${installed.version}`), `${file} is version ${installed.version}`);
      const map = await download(server, `${folder}/${file}.map`);
      assert.equal(map.status, 200, `${file}.map`);
      assert.match(map.headers['content-type'], /^application\/json/, `${file}.map`);
    }
  });

  test(`${folder} answers 304 to a browser that holds the client already`, async (t) => {
    const server = await startServer(t);
    for (const file of FILES) {
      const { etag } = (await download(server, `${folder}/${file}`)).headers;
      const strong = etag.replace(/^W\//, '');
      for (const held of [strong, `W/${strong}`, `"older", ${strong}`]) {
        const answer = await request(`${server.url}${folder}/${file}`, { headers: { 'if-none-match': held } });
        assert.equal(answer.status, 304, `${file} with ${held}`);
        assert.equal(answer.bytes.length, 0);
      }
      assert.equal((await request(`${server.url}${folder}/${file}`, { headers: { 'if-none-match': '"older"' } })).status, 200);
    }
  });

  test(`${folder} serves nothing under other names`, async (t) => {
    const server = await startServer(t);
    for (const file of ['socket.io', 'socket.io.css', 'package.json', '..%2fpackage.json', 'socket.io.js/x']) {
      const { status } = await request(`${server.url}${folder}/${file}`);
      assert.ok(status >= 400 && status < 500, `${file}: ${status}`);
    }
  });

  test(`the script of ${folder} runs, connects and authenticates`, async (t) => {
    const server = await startServer(t);
    const { text } = await download(server, `${folder}/socket.io.js`);
    const page = vm.createContext({ WebSocket, URL, console, setTimeout, clearTimeout, setInterval, clearInterval });
    vm.runInContext(text, page);
    const socket = server.adopt(page.io(server.url, { path: folder, transports: ['websocket'] }));
    await connected(socket);
    const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
    assert.equal(ack.success, true);
  });

  test(`a page in Chromium uses the script of ${folder} like any tutorial does`, async (t) => {
    const server = await startServer(t);
    const page = await openPage(t);
    await page.blank(server.url);
    await page.addScriptTag({ url: `${folder}/socket.io.js` });
    // The default path of `io()` is /socket.io.
    const options = folder === '/socket.io' ? {} : { path: folder };
    const authenticating = page.evaluate(
      (options) =>
        new Promise((resolve, reject) => {
          window.socket = window.io(options);
          window.socket.on('connect_error', reject);
          window.socket.on('connected', () => {
            window.socket.emit('authenticate', { user_id: 'user_1', organization_id: 'acme' }, resolve);
          });
        }),
      options,
    );
    assert.equal((await authenticating).success, true);
  });

  test(`a page in Chromium imports the module of ${folder}`, async (t) => {
    const server = await startServer(t);
    const page = await openPage(t);
    await page.blank(server.url);
    const pong = await page.evaluate(
      (path) =>
        import(`${path}/socket.io.esm.min.js`).then(({ io }) => {
          const socket = io({ path });
          return socket.timeout(5_000).emitWithAck('client:ping', {});
        }),
      folder,
    );
    assert.equal(pong.pong, true);
  });
}
