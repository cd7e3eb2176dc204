// WorkMatrix: every version of its frontend and its agent, unmodified, against the server of `examples/workmatrix`.

import assert from 'node:assert/strict';
import test from 'node:test';
import { startServer, until } from './harness.js';
import { ISO } from './payloads.js';
import { freePort, intake, openPlain, wsUrl } from './plain.js';
import { openProxy } from './proxy.js';
import { BackgroundAgent, HealthClient, ManagerClient, SilentHook, activity, login, screenshot, tour, versions } from './frontends/workmatrix.js';

/** The server of the example, with the listener that the older frontends are hard-wired to. */
async function start(t, environment = {}) {
  const port = await freePort();
  const server = await startServer(t, {
    example: 'workmatrix',
    environment: { TIERCAST__DOORS__WORKMATRIX__LISTEN: `127.0.0.1:${port}`, ...environment },
  });
  server.workmatrix = { port, url: `http://127.0.0.1:${port}` };
  return server;
}

test('every version of the frontend sees its own user, on the port it knows', async (t) => {
  const server = await start(t);
  await tour(server, wsUrl(server.workmatrix));
});

test('every version works at "/" of the main port too', async (t) => {
  const server = await start(t);
  await tour(server, wsUrl(server));
});

test('the extra listener takes any path', async (t) => {
  const server = await start(t);
  for (const path of ['/', '/ws', '/any/where?x=1']) {
    const socket = await openPlain(server, path, { via: server.workmatrix });
    socket.send({ type: 'ping' });
    assert.match((await socket.frames.next('pong')).timestamp, ISO);
  }
});

for (const Client of versions) {
  test(`${Client.name} comes back by itself, logs in again and gets the last activity`, async (t) => {
    const server = await start(t);
    const proxy = await openProxy(t, server.workmatrix);
    const client = await login(server, Client, wsUrl(proxy), 'ann', { pace: 0.1 });
    const users = '/api/ws/workmatrix/users/ann';
    await intake(server, `${users}/activity`, activity(1));
    await client.frames.next('activity_update');
    proxy.cut();
    await client.closed();
    await intake(server, `${users}/activity`, activity(2));
    proxy.restore();
    await client.opened(2);
    await client.frames.next('auth_success');
    assert.deepEqual((await client.frames.next('activity_update')).data, activity(2));
    await intake(server, `${users}/status`, { status: 'syncing' });
    assert.equal((await client.frames.next('status_update')).status, 'syncing');
    assert.deepEqual(client.frames.all('error'), []);
  });

  test(`${Client.name} comes back to a server that restarts`, async (t) => {
    const server = await start(t);
    const proxy = await openProxy(t, server.workmatrix);
    const client = await login(server, Client, wsUrl(proxy), 'ann');
    await server.terminate();
    const { code } = await client.closed();
    assert.notEqual(code, 1000);
    // It tries again, and finds nobody yet.
    await client.closed(2);
  });
}

test('the agent, which stays away after a clean close, comes back to a server that restarts', async (t) => {
  const server = await start(t);
  const agent = await login(server, BackgroundAgent, wsUrl(server.workmatrix), 'ann');
  await server.terminate();
  assert.equal((await agent.closed()).wasClean, false);
  await agent.closed(2);
});

test('all pages of a user get what is for the user, and the pages of others nothing', async (t) => {
  const server = await start(t);
  const url = wsUrl(server.workmatrix);
  const pages = await Promise.all(versions.map((Client) => login(server, Client, url, 'ann')));
  const other = await login(server, HealthClient, url, 'bob');
  const { message_id } = await intake(server, '/api/ws/workmatrix/users/ann/activity', activity());
  for (const page of pages) assert.equal((await page.frames.next('activity_update')).message_id, message_id);
  await intake(server, '/api/ws/workmatrix/users/bob/status', { status: 'offline' });
  await other.frames.next('status_update');
  assert.deepEqual(other.frames.all('activity_update'), []);
  assert.deepEqual(pages.flatMap((page) => page.frames.all('status_update')), []);
});

test('a page that logs in is shown the last activity, at once', async (t) => {
  const server = await start(t);
  for (const n of [1, 2]) await intake(server, '/api/ws/workmatrix/users/ann/activity', activity(n));
  for (const Client of versions) {
    const page = await login(server, Client, wsUrl(server.workmatrix), 'ann');
    assert.deepEqual((await page.frames.next('activity_update')).data, activity(2));
  }
  const other = await login(server, ManagerClient, wsUrl(server.workmatrix), 'bob');
  other.send({ type: 'ping' });
  await other.frames.next('pong');
  assert.deepEqual(other.frames.all('activity_update'), []);
});

test('the agent tells the other sockets of its user, in all three ways', async (t) => {
  const server = await start(t);
  const url = wsUrl(server.workmatrix);
  const page = await login(server, HealthClient, url, 'ann');
  const bystander = await login(server, HealthClient, url, 'bob');
  const agent = await login(server, BackgroundAgent, url, 'ann');
  const metrics = { ...activity(), lastActive: Date.now() };
  agent.sendActivity(metrics);
  assert.deepEqual((await page.frames.next('activity_update')).data, metrics);

  const raw = await openPlain(server, '/', { via: server.workmatrix });
  raw.send({ type: 'auth', user_id: 'ann' });
  await raw.frames.next('auth_success');
  // Of the fields of the original server: whatever `data` holds is passed on.
  const original = { user_id: 'ann', app_name: 'editor', activity_type: 'window_focus', is_idle: false };
  raw.send({ type: 'activity_update', data: original });
  assert.deepEqual((await page.frames.next('activity_update')).data, original);
  raw.send({ type: 'screenshot_update', data: screenshot() });
  assert.deepEqual((await page.frames.next('screenshot_update')).data, screenshot());
  raw.send({ type: 'status_update', status: 'error' });
  assert.equal((await page.frames.next('status_update')).status, 'error');

  bystander.send({ type: 'ping' });
  await bystander.frames.next('pong');
  assert.ok(!bystander.frames.names().some((name) => name.endsWith('_update')), bystander.frames.summary());
  assert.deepEqual(agent.frames.all('error'), []);
});

test('an agent that does not know its user yet is told so, stays, and may say it later', async (t) => {
  const server = await start(t, { TIERCAST__AUTH__AUTH_TIMEOUT_MS: '1' });
  const agent = server.keep(new BackgroundAgent({ url: wsUrl(server.workmatrix) }));
  agent.open();
  const error = await agent.frames.next('error');
  assert.equal(error.error, 'Authentication failed: No user ID provided');
  assert.equal(error.data.message, error.error);
  assert.match(error.timestamp, ISO);
  agent.sendActivity(activity());
  await agent.frames.next('error');
  await agent.frames.next('pong');
  assert.deepEqual(agent.closes, []);
  agent.currentUserId = 'ann';
  agent.ws.onopen();
  await agent.frames.next('auth_success');
});

test('a page that connects and says nothing is left alone', async (t) => {
  const server = await start(t, { TIERCAST__AUTH__AUTH_TIMEOUT_MS: '1' });
  const hook = server.keep(new SilentHook({ url: wsUrl(server.workmatrix) }));
  hook.open();
  await hook.opened();
  // What a page of a user gets meanwhile is none of its business.
  const page = await login(server, HealthClient, wsUrl(server.workmatrix), 'ann');
  await intake(server, '/api/ws/workmatrix/users/ann/status', { status: 'synced' });
  await page.frames.next('status_update');
  assert.deepEqual(hook.closes, []);
  assert.ok(!hook.frames.names().some((name) => name.endsWith('_update')), hook.frames.summary());
});

test('monitoring begins, ends and synchronizes for who is logged in', async (t) => {
  const server = await start(t);
  const url = wsUrl(server.workmatrix);
  for (const Client of versions.slice(1)) {
    const page = await login(server, Client, url, 'ann');
    page.startMonitoring();
    assert.match((await page.frames.next('monitoring_started')).timestamp, ISO);
    page.stopMonitoring();
    assert.match((await page.frames.next('monitoring_stopped')).timestamp, ISO);
    page.send({ type: 'sync_now' });
    assert.match((await page.frames.next('sync_complete')).timestamp, ISO);
  }
  const stranger = await openPlain(server, '/', { via: server.workmatrix });
  stranger.send({ type: 'start_monitoring' });
  assert.match((await stranger.frames.next('error')).error, /not authenticated/i);
  stranger.send({ type: 'ping' });
  await stranger.frames.next('pong');
});

test('a bad timestamp is an error, and the connection stays', async (t) => {
  const server = await start(t);
  const socket = await openPlain(server, '/', { via: server.workmatrix });
  for (const timestamp of ['yesterday', '2024-13-41T99:99:99Z', -1, {}, '']) {
    socket.send({ type: 'auth', user_id: 'ann', timestamp });
    assert.equal(typeof (await socket.frames.next('error')).error, 'string', JSON.stringify(timestamp));
  }
  assert.deepEqual(socket.frames.all('auth_success'), []);
  // Browsers' and Python's own ways of writing one, and a number.
  for (const timestamp of ['2024-03-14T12:00:00Z', '2024-03-14T12:00:00.123Z', '2024-03-14T12:00:00.123456', Date.now()]) {
    socket.send({ type: 'ping', timestamp });
    await socket.frames.next('pong');
  }
  socket.send({ type: 'auth', data: { user_id: 'ann' }, timestamp: new Date().toISOString() });
  await socket.frames.next('auth_success');
});

test('a screenshot of almost a message passes unchanged, both ways', async (t) => {
  const server = await start(t);
  const url = wsUrl(server.workmatrix);
  const page = await login(server, HealthClient, url, 'ann');
  const large = screenshot('iVBORw0K'.repeat(125_000));
  await intake(server, '/api/ws/workmatrix/users/ann/screenshot', large);
  assert.deepEqual((await page.frames.next('screenshot_update')).data, large);
  const agent = await login(server, BackgroundAgent, url, 'ann');
  agent.ws.send(JSON.stringify({ type: 'screenshot_update', data: large }));
  assert.deepEqual((await page.frames.next('screenshot_update')).data, large);
});

test('who is connected is listed like every other socket', async (t) => {
  const server = await start(t);
  const page = await login(server, HealthClient, wsUrl(server.workmatrix), 'ann');
  let listed;
  await until(async () => {
    listed = (await server.get('/connections?organization_id=workmatrix')).body;
    return listed.total_count === 1;
  });
  const [{ socket_id, user_id, organization_id }] = listed.connections;
  assert.deepEqual([user_id, organization_id], ['ann', 'workmatrix']);
  const { status } = await server.get(`/connections/${socket_id}`);
  assert.equal(status, 200);
  page.disconnect();
  await server.holds(0);
});
