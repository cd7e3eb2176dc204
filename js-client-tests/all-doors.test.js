// One server with every door open: all systems' frontends at once, and nothing that passes from one to another.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { request, startServer } from './harness.js';
import { kpi } from './payloads.js';
import { EXAMPLE_SECRET, freePort, intake, openPlain, refusal, token, wsUrl } from './plain.js';
import * as apier from './frontends/apier.js';
import * as dexter from './frontends/dexter.js';
import * as gym from './frontends/gym.js';
import * as workmatrix from './frontends/workmatrix.js';

const marks = { apier: apier.MARK, dexter: dexter.MARK, gym: gym.MARK, workmatrix: workmatrix.MARK, intraday: 'only Intraday' };

async function start(t, more = {}) {
  const port = await freePort();
  const server = await startServer(t, {
    config: {
      auth: { auth_required: false, jwt: { secret: EXAMPLE_SECRET, claims: { user_id: 'user_id' } } },
      doors: {
        intraday: { enabled: true },
        workmatrix: { enabled: true, organization: 'workmatrix', identity: 'declared', listen: `127.0.0.1:${port}` },
        dexter: { enabled: true, organization: 'dexter', identity: 'token', anonymous_channels: ['issues', 'alerts'] },
        gym: { enabled: true, organization: 'av-gym', identity: 'token' },
        apier: { enabled: true, organization: 'apier', identity: 'anonymous', anonymous_channels: ['events', 'metrics'], paths: ['/production'] },
      },
      ...more,
    },
  });
  server.workmatrix = `ws://127.0.0.1:${port}`;
  return server;
}

/** A dashboard on Socket.IO and a plain client of the same organization, and one publication to both. */
async function intradayTour(server) {
  const dashboard = await server.agent('acme', { user: 'ann' });
  const plain = await openPlain(server, '/ws');
  plain.send({ event: 'authenticate', data: { user_id: 'ann', organization_id: 'acme' } });
  await plain.frames.next('authenticate:ack');
  await server.reaches(2, '/broadcast/kpi', kpi('acme', { note: marks.intraday }));
  await dashboard.inbox.next('kpi:update');
  await plain.frames.next('kpi:update');
  return { dashboard, plain };
}

test('all systems work at once, and nobody hears of another', async (t) => {
  const server = await start(t);
  const [pages, intraday] = await Promise.all([
    Promise.all([
      workmatrix.tour(server, server.workmatrix).then((clients) => ['workmatrix', clients]),
      dexter.tour(server).then((clients) => ['dexter', clients]),
      gym.tour(server).then((clients) => ['gym', clients]),
      apier.tour(server).then((clients) => ['apier', clients]),
    ]),
    intradayTour(server),
  ]);
  const heard = [
    ...pages.map(([system, clients]) => [system, clients.flatMap(({ frames }) => frames.entries.map(({ frame }) => frame))]),
    ['intraday', [...intraday.plain.frames.entries.map(({ frame }) => frame), ...intraday.dashboard.inbox.entries.map(({ args }) => args)]],
  ];
  for (const [system, frames] of heard) {
    const text = JSON.stringify(frames);
    assert.ok(text.includes(marks[system]), `${system} heard nothing of itself`);
    for (const [other, mark] of Object.entries(marks)) {
      if (other !== system) assert.ok(!text.includes(mark), `${system} heard of ${other}`);
    }
  }
});

test('every socket is in the organization of its door', async (t) => {
  const server = await start(t);
  await workmatrix.login(server, workmatrix.HealthClient, wsUrl(server), 'ann');
  await dexter.visit(server, token({ user_id: 'ann' }));
  const page = gym.listen(server.keep(new gym.LatestService({ url: gym.address(server) })));
  page.setAuthToken(gym.accessToken('ann'));
  await gym.shows(page, 'initial_stats');
  await apier.open(server);
  await intradayTour(server);
  const counts = { workmatrix: 1, dexter: 1, 'av-gym': 1, apier: 1, acme: 2 };
  for (const [organization, count] of Object.entries(counts)) await server.holds(count, `?organization_id=${organization}`);
  await server.holds(6);
  const { body } = await request(`${server.url}/connections`);
  assert.equal(body.total, 1, 'Dexter lists its own clients only');
});

test('a user of one system is nobody in another', async (t) => {
  const server = await start(t);
  const work = await workmatrix.login(server, workmatrix.HealthClient, server.workmatrix, 'ann');
  const dex = await dexter.visit(server, token({ user_id: 'ann' }));
  const { dashboard, plain } = await intradayTour(server);
  const page = gym.listen(server.keep(new gym.LatestService({ url: gym.address(server) })));
  page.setAuthToken(gym.accessToken('ann'));
  await gym.shows(page, 'initial_stats');

  await intake(server, '/api/ws/workmatrix/users/ann/status', { status: 'synced' });
  await work.frames.next('status_update');
  await intake(server, '/users/ann/assignments', { issue_id: '1', title: dexter.MARK, assigned_by: 'bob' });
  await dex.frames.next('assignment_notification');
  await server.reaches(2, '/broadcast', {
    event: 'system:notification',
    data: { note: marks.intraday },
    target: { organization_id: 'acme', user_ids: ['ann'] },
  });
  await dashboard.inbox.next('system:notification');
  await plain.frames.next('system:notification');
  await intake(server, '/api/ws/gym/notifications', { message: gym.MARK });
  await gym.shows(page, 'notification');

  assert.deepEqual(dex.frames.names().filter((name) => !['connection', 'subscription', 'pong', 'assignment_notification'].includes(name)), []);
  assert.deepEqual(work.frames.all('status_update').length, 1);
  assert.ok(!JSON.stringify(work.frames.entries).includes(dexter.MARK));
  assert.ok(!JSON.stringify(page.frames.entries).includes(marks.intraday));
});

test('the doors do not take each other\'s paths', async (t) => {
  const server = await start(t);
  const checkins = await openPlain(server, `/ws/checkins?token=${gym.accessToken(1)}`);
  await checkins.frames.next('auth_response');
  const client = await openPlain(server, '/ws/checkins2');
  assert.equal((await client.frames.next('connection')).clientId, 'checkins2');
  const raw = await openPlain(server, '/ws');
  await raw.frames.next('connected');
  for (const path of ['/events/ws', '/production']) {
    const listener = await openPlain(server, path);
    listener.send({ type: 'ping', timestamp: 't' });
    await listener.frames.next('pong');
  }
  const monitor = await openPlain(server, '/');
  monitor.send({ type: 'ping' });
  await monitor.frames.next('pong');
  assert.ok((await refusal(server, '/ws/one/two')) >= 400);
  assert.ok((await refusal(server, '/nowhere')) >= 400);
  for (const path of ['/ws/?EIO=4&transport=polling', '/socket.io/?EIO=4&transport=polling']) {
    assert.equal((await request(server.url + path)).status, 200, path);
  }
});

test('an announcement of the server itself tells no system what it does not know', async (t) => {
  const server = await start(t);
  const work = await workmatrix.login(server, workmatrix.HealthClient, server.workmatrix, 'ann');
  const hook = await apier.open(server);
  const { plain } = await intradayTour(server);
  await server.publish('/broadcast', { event: 'system:maintenance', data: { message: 'soon' } });
  assert.equal((await plain.frames.next('system:maintenance')).data.message, 'soon');
  work.send({ type: 'ping' });
  await work.frames.next('pong');
  await hook.frames.next('pong');
  for (const { frames } of [work, hook]) assert.ok(!JSON.stringify(frames.entries).includes('soon'), frames.summary());
});

test('intakes keep to the rule of every publication: a page of elsewhere may not', async (t) => {
  const server = await start(t);
  const paths = ['/broadcast/x', '/notify/y', '/issues/1/notify', '/alerts/1/notify', '/users/a/assignments'];
  const prefixed = ['gym/members', 'gym/notifications', 'apier/events', 'apier/metrics', 'workmatrix/users/a/status'];
  for (const path of [...paths, ...prefixed.map((end) => `/api/ws/${end}`)]) {
    const { status } = await request(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', origin: 'https://evil.example' },
      body: '{}',
    });
    assert.ok([401, 403].includes(status), `${path}: ${status}`);
  }
});

test('a key of one organization publishes to its own system only', async (t) => {
  const key = 'a-key-of-the-gym';
  const hash = `sha256:${createHash('sha256').update(key).digest('hex')}`;
  const server = await start(t, { api: { keys: [{ name: 'gym', hash, rights: ['publish', 'read'], organizations: ['av-gym'] }] } });
  const post = (path, body, headers = { authorization: `Bearer ${key}` }) =>
    request(server.url + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  assert.equal((await post('/api/ws/gym/notifications', { message: 'x' })).status, 200);
  assert.equal((await post('/api/ws/gym/notifications', { message: 'x' }, {})).status, 401);
  const foreign = {
    '/broadcast/x': {},
    '/issues/1/notify': { update_type: 'updated', data: {} },
    '/api/ws/apier/metrics': { total_events: 1 },
    '/api/ws/workmatrix/users/a/status': { status: 'synced' },
  };
  for (const [path, body] of Object.entries(foreign)) assert.equal((await post(path, body)).status, 403, path);
  const listed = await request(`${server.url}/connections`, { headers: { authorization: `Bearer ${key}` } });
  assert.ok(listed.status === 403 || listed.body.total === 0, `${listed.status} ${listed.text}`);
});
