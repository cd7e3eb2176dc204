// What browsers of other origins may do, and what they may read when it fails.

import assert from 'node:assert/strict';
import test from 'node:test';
import WebSocket from 'ws';
import { connected, emitAck, request, startServer, within } from './harness.js';
import { kpi } from './payloads.js';
import { assertShape } from './shape.js';

const DASHBOARD = 'http://localhost:3000';
const STRANGER = 'https://dashboard.example';
const HANDSHAKE = 'EIO=4&transport=polling';

/** A credentialed answer is readable only with the origin itself, never with a star. */
function assertReadable(answer, origin, what) {
  assert.equal(answer.headers['access-control-allow-origin'], origin, `${what}: Access-Control-Allow-Origin`);
  assert.equal(answer.headers['access-control-allow-credentials'], 'true', `${what}: Access-Control-Allow-Credentials`);
  assert.match(answer.headers.vary ?? '', /\bOrigin\b/i, `${what}: Vary`);
}

function assertUnreadable(answer, what) {
  const allowed = answer.headers['access-control-allow-origin'];
  assert.ok(allowed === undefined || (allowed !== STRANGER && allowed !== '*'), `${what} lets ${allowed} read`);
}

test('a polling handshake can be read by the allowed origins, with credentials', async (t) => {
  const server = await startServer(t);
  for (const origin of [DASHBOARD, 'http://localhost:5173', server.url]) {
    for (const path of ['/ws/', '/ws', '/socket.io/']) {
      for (const query of [HANDSHAKE, 'EIO=3&transport=polling']) {
        const answer = await request(`${server.url}${path}?${query}`, { headers: { origin } });
        assert.equal(answer.status, 200, `${path}?${query}`);
        assertReadable(answer, origin, `${path}?${query}`);
      }
    }
  }
});

test('the packets after the handshake can be read too', async (t) => {
  const server = await startServer(t);
  const url = `${server.url}/ws/?${HANDSHAKE}`;
  const open = await request(url, { headers: { origin: DASHBOARD } });
  const { sid } = JSON.parse(open.text.slice(1));
  const post = await request(`${url}&sid=${sid}`, {
    method: 'POST',
    headers: { origin: DASHBOARD, 'content-type': 'text/plain;charset=UTF-8' },
    body: '40',
  });
  assert.equal(post.status, 200);
  assertReadable(post, DASHBOARD, 'POST');
  const poll = await request(`${url}&sid=${sid}`, { headers: { origin: DASHBOARD } });
  assert.equal(poll.status, 200);
  assertReadable(poll, DASHBOARD, 'GET');
});

test('the errors of a handshake can be read too', async (t) => {
  const server = await startServer(t);
  const errors = {
    'an unknown session': `${HANDSHAKE}&sid=AAAAAAAAAAAAAAAAAAAA`,
    'an unknown transport': 'EIO=4&transport=carrier-pigeon',
    'an unknown protocol version': 'EIO=9&transport=polling',
    'a WebSocket without an upgrade': 'EIO=4&transport=websocket',
  };
  for (const [what, query] of Object.entries(errors)) {
    const answer = await request(`${server.url}/ws/?${query}`, { headers: { origin: DASHBOARD } });
    assert.ok(answer.status >= 400 && answer.status < 500, `${what}: ${answer.status}`);
    assertReadable(answer, DASHBOARD, what);
  }
});

test('a preflight is answered for every method and header that a client sends', async (t) => {
  const server = await startServer(t);
  for (const path of [`/ws/?${HANDSHAKE}`, `/socket.io/?${HANDSHAKE}`]) {
    for (const method of ['GET', 'POST']) {
      const answer = await request(server.url + path, {
        method: 'OPTIONS',
        headers: {
          origin: DASHBOARD,
          'access-control-request-method': method,
          'access-control-request-headers': 'authorization,content-type,x-tenant',
        },
      });
      assert.ok([200, 204].includes(answer.status), `${path}: ${answer.status}`);
      assertReadable(answer, DASHBOARD, `preflight of ${method}`);
      const methods = answer.headers['access-control-allow-methods'].split(/\s*,\s*/);
      assert.ok(methods.includes(method), `${method} in ${methods}`);
      const headers = answer.headers['access-control-allow-headers'].toLowerCase().split(/\s*,\s*/);
      for (const header of ['authorization', 'content-type', 'x-tenant']) assert.ok(headers.includes(header), `${header} in ${headers}`);
    }
  }
});

test('an origin that is not allowed gets neither a session nor a WebSocket', async (t) => {
  const server = await startServer(t);
  const answer = await request(`${server.url}/ws/?${HANDSHAKE}`, { headers: { origin: STRANGER } });
  assert.ok(answer.status >= 400 && answer.status < 500, `status ${answer.status}`);
  assertUnreadable(answer, 'the handshake');
  const preflight = await request(`${server.url}/ws/?${HANDSHAKE}`, {
    method: 'OPTIONS',
    headers: { origin: STRANGER, 'access-control-request-method': 'POST' },
  });
  assertUnreadable(preflight, 'the preflight');

  for (const origin of [STRANGER, 'null', `${DASHBOARD}.dashboard.example`, 'http://localhost:30000']) {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`, { origin });
    const refused = new Promise((resolve, reject) => {
      socket.on('unexpected-response', (_, res) => resolve(res.statusCode));
      socket.on('open', () => reject(new Error(`${origin} got a WebSocket`)));
    });
    const status = await within(refused, () => `the upgrade of ${origin} to be refused`);
    assert.ok(status >= 400 && status < 500, `${origin}: ${status}`);
    socket.on('error', () => {});
    socket.terminate();
  }
  await server.holds(0);
});

test('a star in the config allows every origin, by its own name', async (t) => {
  const server = await startServer(t, { config: { server: { cors_origins: ['*'] } } });
  const answer = await request(`${server.url}/ws/?${HANDSHAKE}`, { headers: { origin: STRANGER } });
  assert.equal(answer.status, 200);
  assertReadable(answer, STRANGER, 'the handshake');
});

test('a client of an allowed origin connects on either transport', async (t) => {
  const server = await startServer(t);
  for (const transport of ['polling', 'websocket']) {
    const socket = server.connect({ transports: [transport], withCredentials: true, extraHeaders: { origin: DASHBOARD } });
    await connected(socket);
    assert.equal((await emitAck(socket, 'client:ping', {})).pong, true);
  }
});

test('a forged Host, Origin or proxy header does not open the HTTP API without a key', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const forged = [
    { host: 'dashboard.example' },
    { host: `127.0.0.1.dashboard.example:${server.port}` },
    { origin: STRANGER },
    { origin: 'null' },
    { forwarded: 'for=127.0.0.1' },
    { 'x-forwarded-for': '127.0.0.1' },
    { 'x-forwarded-host': 'localhost' },
    { 'x-forwarded-proto': 'http' },
    { 'x-real-ip': '127.0.0.1' },
    { via: '1.1 proxy' },
  ];
  for (const headers of forged) {
    const what = JSON.stringify(headers);
    const publish = await server.publish('/broadcast/kpi', kpi('acme', { forged: true }), headers);
    assert.equal(publish.status, 401, `POST with ${what}`);
    assertShape('http-error', publish.body);
    assert.equal((await server.get('/connections', headers)).status, 401, `GET with ${what}`);
  }
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { forged: false }));
  assert.equal((await socket.inbox.next('kpi:update')).forged, false);
  for (const host of ['127.0.0.1', 'localhost', `localhost:${server.port}`, `[::1]:${server.port}`]) {
    assert.equal((await server.get('/connections', { host })).status, 200, host);
  }
});
