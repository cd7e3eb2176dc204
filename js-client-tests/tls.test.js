// TLS: every official client on every transport over https and wss, with a certificate that it is told to trust.

import assert from 'node:assert/strict';
import test from 'node:test';
import WebSocket from 'ws';
import { openPage } from './browser.js';
import { clients, transportOf, upgraded } from './clients.js';
import { connected, emitAck, once, selfSigned, startServer, subscribe, within } from './harness.js';

/** A server with TLS, where being trusted is meant; the certificate that its clients have to trust. */
async function startTls(t, options = {}) {
  const { tls, ca } = await selfSigned(t);
  const config = { server: { tls }, auth: { allow_trusted: true }, api: { allow_keyless: true } };
  return { server: await startServer(t, { config, ...options }), ca };
}

for (const { name, options, upgrades } of clients) {
  test(`${name} works over TLS`, async (t) => {
    const { server, ca } = await startTls(t);
    assert.match(server.url, /^https:/);
    const socket = server.connect({ ...options, ca });
    const upgrade = upgrades && upgraded(socket);
    await connected(socket);
    const identity = { user_id: 'user_123', organization_id: 'org_123' };
    assert.equal((await emitAck(socket, 'authenticate', identity)).success, true);
    await subscribe(socket, { channels: ['kpi'] });
    await upgrade;
    assert.equal(transportOf(socket), upgrades ? 'websocket' : options.transports[0]);
    const data = { organization_id: 'org_123', text: 'x'.repeat(300_000) };
    await server.reaches(1, '/broadcast/kpi', data);
    assert.equal((await socket.inbox.next('kpi:update')).text.length, 300_000);
    assert.equal((await emitAck(socket, 'client:ping', { text: data.text })).pong, true);
  });

  test(`${name} does not talk to a certificate that it does not trust`, async (t) => {
    const { server } = await startTls(t);
    const socket = server.connect(options);
    await once(socket, 'connect_error');
    assert.equal(socket.connected, false);
    await server.holds(0);
  });
}

test('permessage-deflate shrinks what goes over TLS', async (t) => {
  const { server, ca } = await startTls(t);
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket&forms=named`, { ca });
  const texts = [];
  const arrived = new Promise((resolve) => {
    socket.on('message', (data) => {
      texts.push(data.toString());
      if (data.toString().startsWith('42["kpi:update"')) resolve();
    });
  });
  await once(socket, 'open');
  assert.match(socket.extensions, /permessage-deflate/);
  const welcome = new Promise((resolve) => {
    socket.on('message', (data) => data.toString().startsWith('42["connected"') && resolve());
  });
  socket.send('40{"user_id":"ann","organization_id":"acme"}');
  await within(welcome, () => `connected; it received ${texts}`);
  const read = socket._socket.bytesRead;
  await server.reaches(1, '/broadcast/kpi', { organization_id: 'acme', text: 'abc'.repeat(50_000) });
  await within(arrived, () => `the event; it received ${texts}`);
  assert.ok(socket._socket.bytesRead - read < 10_000, `${socket._socket.bytesRead - read} bytes`);
  socket.close();
  await once(socket, 'close');
});

test('the demo page goes live over TLS', async (t) => {
  const { server } = await startTls(t, { args: ['--demo'] });
  const page = await openPage(t, { ignoreHTTPSErrors: true });
  await page.goto(server.url);
  await page.waitForSelector('#state[data-state="live"]');
  await page.waitForSelector('#kpi-health[data-value]');
  assert.deepEqual(page.faults, []);
});
