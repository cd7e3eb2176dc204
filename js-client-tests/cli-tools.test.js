// The tools that a developer has at hand.

import assert from 'node:assert/strict';
import test from 'node:test';
import { startServer } from './harness.js';
import { documentsKpi } from './payloads.js';
import { openTerminal } from './terminal.js';

test('socket.io-cli, which knows no path but /socket.io, connects and is answered', async (t) => {
  const server = await startServer(t);
  const terminal = openTerminal(t, 'socketio', server.url);
  await terminal.shows(/Connected to http:\/\/127\.0\.0\.1:\d+/);
  const [, hello] = await terminal.shows(/connected (\[\{.*\}\])/);
  assert.equal(typeof JSON.parse(hello)[0].socket_id, 'string');

  terminal.type('client:ping');
  const [, pong] = await terminal.shows(/client:pong (\[\{.*\}\])/);
  assert.equal(typeof JSON.parse(pong)[0].server_time, 'string');

  // The tool can send words only; the answer says what is wrong with them.
  for (const line of ['authenticate nobody', 'subscribe everything', 'unheard-of']) {
    terminal.type(line);
    const [, error] = await terminal.shows(/error (\[\{.*\}\])/);
    const [{ code, message }] = JSON.parse(error);
    assert.ok(['INVALID_MESSAGE', 'AUTH_FAILED', 'UNAUTHORIZED'].includes(code), `${line}: ${code}`);
    assert.equal(typeof message, 'string');
  }
  terminal.type('client:ping');
  await terminal.shows(/client:pong/);
});

test('socket.io-cli is told why a namespace refuses it', async (t) => {
  const server = await startServer(t);
  const terminal = openTerminal(t, 'socketio', `${server.url}/org/acme`);
  await terminal.shows(/Connection error:\s+Error: AUTH_FAILED/);
});

for (const path of ['/ws/', '/ws', '/socket.io/']) {
  test(`wscat speaks Engine.IO by hand at ${path}`, async (t) => {
    const server = await startServer(t);
    const address = `${server.url.replace('http', 'ws')}${path}?EIO=4&transport=websocket`;
    const terminal = openTerminal(t, 'wscat', '-c', address);
    const [, open] = await terminal.shows(/< 0(\{.*\})/);
    const handshake = JSON.parse(open);
    assert.equal(handshake.pingInterval, 25_000);
    assert.equal(handshake.pingTimeout, 60_000);
    assert.deepEqual(handshake.upgrades, []);
    assert.ok(handshake.maxPayload >= 1_048_576, `maxPayload ${handshake.maxPayload}`);

    terminal.type('40');
    await terminal.shows(/< 40\{"sid":"[^"]+".*\}/);
    const [, hello] = await terminal.shows(/< 42(\["connected",.*\])/);
    const [, { socket_id }] = JSON.parse(hello);

    terminal.type('420["authenticate",{"user_id":"user_123","organization_id":"org_123"}]');
    const [, authenticated] = await terminal.shows(/< 430(\[.*\])/);
    assert.equal(JSON.parse(authenticated)[0].success, true);
    assert.equal(JSON.parse(authenticated)[0].socket_id, socket_id);
    terminal.type('421["subscribe",{"channels":["kpi"],"organization_id":"org_123"}]');
    const [, subscribed] = await terminal.shows(/< 431(\[.*\])/);
    assert.deepEqual(JSON.parse(subscribed)[0].rooms, ['kpi:org:org_123']);

    const { message_id } = await server.reaches(1, '/broadcast/kpi', documentsKpi);
    const [, named] = await terminal.shows(/< 42(\["kpi:update",.*\])/);
    assert.deepEqual(JSON.parse(named)[1], documentsKpi);
    const [, enveloped] = await terminal.shows(/< 42(\["message",.*\])/);
    assert.equal(JSON.parse(enveloped)[1].message_id, message_id);

    terminal.type('422["client:ping"]');
    await terminal.shows(/< 432\[\{"pong":true/);
    terminal.type('41');
    await server.holds(0);
  });
}
