// Secrets of clients are in nothing that a server writes, whoever comes and whatever goes wrong.
//
// The harness looks for them after every server of every test file; this file
// makes sure that there is something to find, and that it would be found.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import WebSocket from 'ws';
import { clients } from './clients.js';
import { connected, emitAck, request, startServer, until } from './harness.js';
import { kpi } from './payloads.js';
import { EXAMPLE_SECRET, openPlain, refusal, token } from './plain.js';
import * as secrets from './secrets.js';

const KEY = 'tc_a-key-that-nobody-may-ever-read-in-a-log';

async function start(t) {
  secrets.hold('an API key', KEY);
  const hash = `sha256:${createHash('sha256').update(KEY).digest('hex')}`;
  return startServer(t, {
    config: {
      auth: { jwt: { secret: EXAMPLE_SECRET }, auth_timeout_ms: 5_000 },
      api: { keys: [{ name: 'backend', hash, rights: ['publish', 'read', 'admin'] }] },
      doors: { gym: { enabled: true, organization: 'gym' }, dexter: { enabled: true, organization: 'dex', anonymous_channels: ['issues'] } },
      client_events: [{ event: 'order', action: 'forward', url: 'http://127.0.0.1:9/nobody', secret: 'a-secret-of-a-service' }],
      escalation: { publish: true, url: 'http://user:password-of-a-service@127.0.0.1:9/', secret: 'a-secret-of-escalation', timeout_ms: 100 },
      logging: { log_all_messages: true, log_broadcast_events: true },
    },
  });
}

test('nothing that a server writes holds a secret, whoever comes', async (t) => {
  for (const secret of ['a-secret-of-a-service', 'a-secret-of-escalation', 'password-of-a-service']) secrets.hold('a secret of the config', secret);
  const server = await start(t);
  const authorization = `Bearer ${KEY}`;
  const sockets = [];
  for (const { options } of clients) {
    const socket = server.connect(options);
    await connected(socket);
    const ack = await emitAck(socket, 'authenticate', { user_id: 'ann', organization_id: 'acme', session_id: 's' });
    assert.equal(ack.success, true, JSON.stringify(ack));
    await emitAck(socket, 'order', { n: 1 });
    socket.emit('nonsense', { n: 1 });
    sockets.push(socket);
  }
  assert.ok(secrets.count() > clients.length, `${secrets.count()} secrets are known`);

  const jwt = token({ sub: 'ann' });
  const plain = [await openPlain(server, '/ws'), await openPlain(server, `/ws/checkins?token=${jwt}`), await openPlain(server, `/ws/ann?token=${jwt}`)];
  for (const socket of plain) for (const frame of ['not JSON', '{}', `{"type":"${jwt}"}`, `{"event":"authenticate","data":{"token":"${jwt}"}}`]) socket.ws.send(frame);
  for (const wrong of [token({ sub: 'ann' }, { secret: 'x'.repeat(40) }), token({ sub: 'ann' }, { lifetime_s: -10_000 })]) {
    const socket = server.connect({ namespace: '/org/acme', auth: { token: wrong }, query: { token: wrong } });
    await new Promise((resolve) => socket.once('connect_error', resolve));
    await refusal(server, `/ws/checkins?token=${wrong}`).catch(() => {});
    const reply = await server.get(`/stats?token=${wrong}`, { authorization: `Bearer ${wrong}` });
    assert.equal(reply.status, 401);
  }

  const engine = sockets[0].io.engine.id;
  for (const path of [`?EIO=4&transport=polling&sid=${engine}x`, `?EIO=4&transport=nonsense&sid=${engine}`, `?EIO=9&sid=${engine}`]) {
    assert.equal((await request(`${server.url}/ws/${path}`)).status, 400);
  }
  assert.equal((await request(`${server.url}/ws/?EIO=4&transport=polling&sid=${engine}`, { method: 'POST', body: 'not a packet' })).status, 400);
  const upgrade = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket&sid=${engine}`);
  upgrade.on('error', () => {});
  upgrade.on('open', () => upgrade.terminate());
  for (const path of [`/connections/${engine}`, `/messages/${engine}`, `/rooms/${engine}/messages`]) {
    assert.equal((await server.get(path)).status, 401);
    assert.equal((await server.get(path, { authorization })).status, 404);
  }

  const urgent = { ...kpi('acme'), requires_ack: true };
  const body = { event: 'alert:triggered', data: urgent, priority: 'urgent', requires_ack: true, ack_timeout_ms: 1, target: { organization_id: 'acme' } };
  assert.equal((await server.publish('/broadcast', body, { authorization })).status, 200);
  assert.equal((await server.publish('/broadcast', '{', { 'x-api-key': KEY })).status, 400);
  assert.equal((await server.publish('/broadcast', body, { 'x-api-key': `${KEY}x` })).status, 401);
  for (const path of ['/stats', '/connections', '/rooms', '/presence?organization_id=acme', '/rooms/org:acme/messages']) {
    assert.equal((await server.get(path, { authorization })).status, 200, path);
  }
  await until(() => server.output().includes('an escalation was not taken'), () => 'the escalation to fail');
  assert.match(server.output(), /DEBUG/, 'the log is as talkative as it can be');
  assert.match(server.output(), /tiercast::audit/);
});

test('a secret that is written would be found', async (t) => {
  const server = await start(t);
  const socket = server.connect();
  await connected(socket);
  for (const secret of [socket.io.engine.id, socket._pid, token({ sub: 'ann' }), KEY]) {
    assert.match(secrets.found(`a line about ${secret} and more`), /^(a session id|a pid|a token|an API key) in /);
  }
  assert.equal(secrets.found(`a line about ${token({ sub: 'ann' }).split('.')[0]}`), undefined);
});
