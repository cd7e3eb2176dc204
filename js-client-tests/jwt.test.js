// Tokens as stock clients carry them: to come in, to stay, and to come back.

import assert from 'node:assert/strict';
import test from 'node:test';
import { clients } from './clients.js';
import { connected, emitAck, once, request, startServer, subscribe } from './harness.js';
import { kpi } from './payloads.js';
import { openProxy } from './proxy.js';

const SECRET = 'a secret of at least thirty-two bytes';

const withTokens = (auth = {}) => ({ auth: { mode: 'jwt', ...auth, jwt: { secret: SECRET, leeway_ms: 0 } } });

/** Has the server make a token, as a backend does for whoever has logged in. */
async function tokenOf(server, more = {}) {
  const { status, body } = await server.publish('/token', { user_id: 'user_1', organization_id: 'acme', ...more });
  assert.equal(status, 200, JSON.stringify(body));
  return body.token;
}

/** Options that bring a token: version 2 has no `auth`, and has its query. */
const bringing = ({ eio }, token) => (eio === 3 ? { query: { token } } : { auth: { token } });

for (const client of clients) {
  test(`${client.name} comes in by its token and receives its department only`, async (t) => {
    const server = await startServer(t, { config: withTokens() });
    const token = await tokenOf(server, { departments: ['sales'] });
    const socket = server.connect({ ...client.options, ...bringing(client, token) });
    await connected(socket);
    const ack = await emitAck(socket, 'authenticate', { user_id: 'user_1', organization_id: 'acme' });
    assert.equal(ack.success, true, JSON.stringify(ack));
    assert.ok(Date.parse(ack.expires_at) > Date.now());
    await server.reaches(0, '/broadcast/kpi', kpi('acme', { department_id: 'support', n: 1 }));
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'sales', n: 2 }));
    assert.equal((await socket.inbox.next('kpi:update')).n, 2);
    const { body } = await server.get('/connections');
    assert.ok(!JSON.stringify(body).includes(token), 'a listing has no token');
  });

  test(`${client.name} stays away once it is told that its token does not hold`, async (t) => {
    const server = await startServer(t, { config: withTokens() });
    const options = { ...client.options, ...bringing(client, 'no.token.this'), reconnection: true, reconnectionDelay: 1 };
    const socket = server.connect(options);
    let refusals = 0;
    if (client.eio === 3) {
      // Version 2 is in the main namespace before it can be refused, and hears of it as an error.
      const refused = await once(socket, 'error');
      assert.match(refused.message ?? refused, /^AUTH_FAILED: /);
    } else {
      socket.on('connect_error', () => (refusals += 1));
      const { message } = await once(socket, 'connect_error');
      assert.match(message, /^AUTH_FAILED: the token is not valid/);
      // A round trip of another client: time enough for a second try.
      await connected(server.connect({ ...client.options, ...bringing(client, await tokenOf(server)) }));
      assert.equal(refusals, 1);
      assert.equal(socket.connected, false);
    }
  });

  test(`${client.name} renews its token while it is connected, or is sent away`, async (t) => {
    const server = await startServer(t, { config: withTokens({ refresh_grace_ms: 2_000 }) });
    const short = await tokenOf(server, { expires_in_ms: 4_000 });
    const options = { ...client.options, reconnection: true, reconnectionDelay: 1 };
    const enter = async () => {
      const socket = server.connect(options);
      await connected(socket);
      assert.equal((await emitAck(socket, 'authenticate', { token: short })).success, true);
      return socket;
    };
    const [renewing, silent] = [await enter(), await enter()];
    const left = once(silent, 'disconnect');
    const told = await renewing.inbox.next('error');
    assert.equal(told.code, 'AUTH_FAILED');
    assert.match(told.message, /has expired/);
    assert.equal((await emitAck(renewing, 'authenticate', { token: await tokenOf(server) })).success, true);
    assert.equal(await left, 'io server disconnect');
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { n: 1 }));
    assert.equal((await renewing.inbox.next('kpi:update')).n, 1);
  });
}

for (const client of clients.filter(({ name }) => name.includes('4.8'))) {
  test(`${client.name} recovers with the token that its auth function gives, and not after a revocation`, async (t) => {
    const server = await startServer(t, { config: withTokens() });
    const proxy = await openProxy(t, server);
    const tokens = [];
    const auth = async (give) => {
      tokens.push(await tokenOf(server));
      give({ token: tokens.at(-1) });
    };
    const reconnecting = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50, reconnectionAttempts: 1_000 };
    const socket = server.connect({ ...client.options, ...reconnecting, url: proxy.url, auth });
    await connected(socket);
    await subscribe(socket, { channels: ['kpi'] });
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { n: 0 }));
    await socket.inbox.next('kpi:update');
    const lost = once(socket, 'disconnect');
    proxy.cut();
    await lost;
    await server.publish('/broadcast/kpi', kpi('acme', { n: 1 }));
    const back = once(socket, 'connect');
    proxy.restore();
    await back;
    assert.deepEqual([socket.recovered, tokens.length >= 2], [true, true]);
    assert.equal((await socket.inbox.next('kpi:update')).n, 1);

    const dismissed = once(socket, 'disconnect');
    const { body } = await server.publish('/revocations', { organization_id: 'acme', user_id: 'user_1' });
    assert.equal(body.disconnected, 1, JSON.stringify(body));
    assert.equal(await dismissed, 'io server disconnect');
    // The user may log in again: what is issued later holds.
    const again = once(socket, 'connect');
    socket.connect();
    await again;
    assert.equal(socket.recovered, false);
    const bearer = { authorization: `Bearer ${tokens[0]}` };
    const room = encodeURIComponent('kpi:org:acme');
    assert.equal((await request(`${server.url}/api/ws/rooms/${room}/messages`, { headers: bearer })).status, 401);
    bearer.authorization = `Bearer ${tokens.at(-1)}`;
    const read = await request(`${server.url}/api/ws/rooms/${room}/messages`, { headers: bearer });
    assert.deepEqual([read.status, read.body.messages.length], [200, 2]);
  });
}
