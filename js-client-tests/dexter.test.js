// Dexter: its frontend, unmodified, against the server of `examples/dexter`.

import assert from 'node:assert/strict';
import test from 'node:test';
import { request, startServer, until } from './harness.js';
import { ISO } from './payloads.js';
import { intake, openPlain, refusal, token, wsUrl } from './plain.js';
import { openProxy } from './proxy.js';
import { RealtimePage, subscribed, tour, visit } from './frontends/dexter.js';

const start = (t, environment) => startServer(t, { example: 'dexter', environment });
const ann = () => token({ sub: 'ann' });
const issue = (title, update_type = 'updated') => ({ update_type, data: { title } });

test('a visitor and a user see what is theirs', async (t) => {
  await tour(await start(t));
});

test('the first frame is the greeting, with the id of the path', async (t) => {
  const server = await start(t);
  const socket = await openPlain(server, '/ws/test-client');
  assert.deepEqual(await socket.frames.next('connection'), {
    type: 'connection',
    status: 'connected',
    clientId: 'test-client',
    authenticated: false,
  });
});

for (const [name, jwt] of Object.entries({
  'no token': undefined,
  'the stub': 'demo-token',
  'an expired token': token({ sub: 'ann' }, { lifetime_s: -3_600 }),
  'a token of another secret': token({ sub: 'ann' }, { secret: 'x'.repeat(40) }),
  'a token without a signature': `${token({ sub: 'ann' }, { header: { alg: 'none' } }).split('.').slice(0, 2).join('.')}.`,
})) {
  test(`with ${name} a page listens to issues and alerts, and to nothing of a user`, async (t) => {
    const server = await start(t);
    const page = await visit(server, jwt);
    assert.equal(page.greeting.authenticated, false);
    await subscribed(page, 'issues', 'alerts');
    for (const channel of ['issue:123', 'project:p1', 'presence']) {
      page.subscribe(channel);
      const error = await page.frames.next('error', (frame) => frame.channel === channel);
      assert.equal(typeof error.error, 'string');
      assert.equal(typeof error.message, 'string');
    }
    page.updatePresence('online');
    await intake(server, '/issues/123/notify', issue('Seen'));
    await page.frames.next('issue_update');
    assert.deepEqual(page.frames.all('presence_update'), []);
    assert.deepEqual(page.closes, []);
    await server.holds(1);
  });
}

test('every kind of update is told as the page reads it', async (t) => {
  const server = await start(t);
  const page = await visit(server);
  await subscribed(page, 'issues', 'alerts');
  const updates = {
    created: { title: 'New', project: 'p1' },
    status_changed: { status: 'resolved', previous_status: 'open', updated_by: 'ann', title: 'T', project: 'p1' },
    assigned: { assignee: 'bob', assigned_by: 'ann', title: 'T', project: 'p1' },
    comment_added: { comment: { id: 'c1', issue_id: '123', text: '"quoted"\n</script>', user_id: 'ann' }, user_id: 'ann' },
    resolved: { title: 'T', resolved_by: 'ann' },
    deleted: {},
  };
  for (const [update_type, data] of Object.entries(updates)) {
    await intake(server, '/api/ws/dexter/issues/123/notify', { update_type, data });
    const update = await page.frames.next('issue_update');
    assert.deepEqual([update.update_type, update.issue_id, update.data], [update_type, '123', data]);
    assert.match(update.timestamp, ISO);
  }
  assert.equal(page.notices.at(-1), 'Issue 123 deleted');
});

test('an issue and a project are told to who listens to them, and to nobody else', async (t) => {
  const server = await start(t);
  const page = await visit(server, ann(), { before: (fresh) => (fresh.channels = ['issue:1', 'project:p1']) });
  await subscribed(page, 'issue:1', 'project:p1');
  await intake(server, '/issues/2/notify', issue('another issue'));
  await intake(server, '/alerts/a1/notify', { message: 'another project', severity: 'low', project_id: 'p2' });
  await intake(server, '/alerts/a2/notify', { message: 'no project', severity: 'low' });
  await intake(server, '/alerts/a3/notify', { message: 'this project', severity: 'low', project_id: 'p1' });
  await intake(server, '/issues/1/notify', issue('this issue'));
  await page.frames.next('issue_update');
  assert.deepEqual(page.notices, ['this project', 'this issue']);

  page.unsubscribe('issue:1');
  await page.frames.next('subscription', (frame) => frame.channel === 'issue:1' && frame.status === 'unsubscribed');
  await intake(server, '/issues/1/notify', issue('too late'));
  await intake(server, '/alerts/a4/notify', { message: 'still there', severity: 'low', project_id: 'p1' });
  await page.frames.next('alert_trigger', ({ alert_id }) => alert_id === 'a4');
  assert.deepEqual(page.notices, ['this project', 'this issue', 'still there']);
});

test('a broadcast reaches everybody, or a channel', async (t) => {
  const server = await start(t);
  const pages = [await visit(server), await visit(server, ann(), { before: (fresh) => (fresh.channels = ['issue:7']) })];
  await subscribed(pages[0], 'issues', 'alerts');
  await subscribed(pages[1], 'issue:7');
  for (const path of ['/broadcast/deployed', '/api/ws/dexter/broadcast/deployed']) {
    const { status } = await intake(server, path, { version: '0.3' });
    assert.equal(status, 'broadcasted');
    for (const page of pages) assert.deepEqual((await page.frames.next('deployed')).data, { version: '0.3' });
  }
  await intake(server, '/broadcast/only_issues?channel=issues', {});
  await intake(server, '/broadcast/only_seven?channel=issue:7', {});
  await intake(server, '/broadcast/last?channel=global', { n: 1 });
  for (const page of pages) await page.frames.next('last');
  assert.deepEqual(pages.map((page) => page.frames.names().filter((name) => name.startsWith('only_'))), [['only_issues'], ['only_seven']]);
});

test('`/connections` lists the ids that clients have given themselves', async (t) => {
  const server = await start(t);
  const pages = [await visit(server), await visit(server, ann())];
  for (const path of ['/connections', '/api/ws/dexter/connections']) {
    const { body } = await request(server.url + path);
    assert.deepEqual([body.total, body.authenticated], [2, 1]);
    assert.deepEqual(body.clients.toSorted(), pages.map(({ clientId }) => clientId).toSorted());
  }
  const { status } = await intake(server, '/notify/nobody', { title: 'x' });
  assert.equal(status, 'sent', 'as for a client that is not there any more');
});

test('what is for a user reaches all its pages', async (t) => {
  const server = await start(t);
  const pages = [await visit(server, ann()), await visit(server, ann())];
  const bob = await visit(server, token({ sub: 'bob' }));
  await intake(server, '/users/ann/assignments', { issue_id: '1', title: 'Yours', assigned_by: 'bob' });
  for (const page of pages) assert.equal((await page.frames.next('assignment_notification')).title, 'Yours');
  await intake(server, '/broadcast/last', {});
  await bob.frames.next('last');
  assert.deepEqual(bob.frames.all('assignment_notification'), []);
});

test('messages queued before it opens are sent first, and a channel may be asked for twice', async (t) => {
  const server = await start(t);
  const page = await visit(server, ann(), {
    before: (fresh) => {
      // As the hooks do at mount; the client then asks again for whatever it remembers.
      fresh.subscribe('presence');
      fresh.updatePresence('busy');
    },
  });
  await subscribed(page, 'presence', 'presence', 'issues', 'alerts');
  assert.deepEqual(page.sent.slice(0, 3).map(({ type }) => type), ['subscribe', 'presence', 'subscribe']);
  await page.frames.next('presence_update', ({ user_id, status }) => user_id === 'ann' && status === 'busy');
  await intake(server, '/issues/1/notify', issue('once'));
  await page.frames.next('issue_update');
  assert.deepEqual(page.notices, ['once']);
  assert.deepEqual(page.frames.all('error'), []);
});

test('who is online, away and gone is told on `presence`', async (t) => {
  const server = await start(t, { TIERCAST__PRESENCE__GRACE_MS: '50' });
  const watcher = await visit(server, token({ sub: 'watcher' }), { before: (fresh) => (fresh.channels = ['presence']) });
  await subscribed(watcher, 'presence');
  const page = await visit(server, ann());
  const online = await watcher.frames.next('presence_update', ({ user_id }) => user_id === 'ann');
  assert.equal(online.status, 'online');
  assert.match(online.timestamp, ISO);
  for (const status of ['away', 'busy', 'online']) {
    page.updatePresence(status);
    await watcher.frames.next('presence_update', (frame) => frame.user_id === 'ann' && frame.status === status);
  }
  assert.ok(watcher.online.has('ann'));
  page.disconnect();
  const offline = await watcher.frames.next('presence_update', (frame) => frame.user_id === 'ann' && frame.status === 'offline');
  assert.match(offline.last_seen, ISO);
  assert.ok(!watcher.online.has('ann'));
});

test('a page that is cut off comes back under its id, and subscribes again', async (t) => {
  const server = await start(t);
  const proxy = await openProxy(t, server);
  for (const jwt of [undefined, 'demo-token', ann()]) {
    const page = await visit(server, jwt, { url: wsUrl(proxy) });
    await subscribed(page, 'issues', 'alerts');
    proxy.cut();
    assert.equal((await page.closed()).code, 1006);
    proxy.restore();
    await page.opened(page.opens + 1);
    const again = await page.frames.next('connection');
    assert.deepEqual([again.clientId, again.authenticated], [page.clientId, page.greeting.authenticated]);
    await subscribed(page, 'issues', 'alerts', 'issues', 'alerts');
    const notices = page.notices.length;
    await intake(server, '/issues/1/notify', issue('back'));
    await page.frames.next('issue_update');
    assert.equal(page.notices.length, notices + 1);
    page.disconnect();
    await server.holds(0);
  }
});

test('a page that leaves stays away, and one whose server restarts does not', async (t) => {
  const server = await start(t);
  const leaving = await visit(server);
  leaving.ws.close(1000, 'Client disconnect');
  assert.equal((await leaving.closed()).code, 1000);
  const staying = await visit(server);
  await server.terminate();
  const { code } = await staying.closed();
  assert.ok(![1000, 1001].includes(code), `a page would not come back after ${code}`);
  await staying.closed(2);
  assert.equal(leaving.closes.length, 1);
});

test('a page that an operator sends away does not come back', async (t) => {
  const server = await start(t);
  const page = await visit(server, ann());
  const { body } = await server.get('/connections?user_id=ann');
  const [{ socket_id }] = body.connections;
  const removed = await request(`${server.url}/api/ws/connections/${socket_id}`, { method: 'DELETE' });
  assert.equal(removed.status, 200);
  const { code } = await page.closed();
  assert.ok([1000, 1001].includes(code), `a page would come back after ${code}`);
  assert.equal(page.status, 'disconnected');
});

test('an id that somebody else uses is refused, and its messages stay with its owner', async (t) => {
  const server = await start(t);
  const page = await visit(server, ann());
  const thief = server.keep(new RealtimePage({ url: wsUrl(server) }));
  thief.clientId = page.clientId;
  thief.open(token({ sub: 'mallory' }));
  await thief.closed();
  assert.deepEqual(thief.frames.all('connection'), []);
  await intake(server, `/notify/${page.clientId}`, { title: 'Private' });
  await page.frames.next('notification');
  assert.deepEqual(thief.frames.all('notification'), []);
  assert.deepEqual(page.closes, []);
});

test('`checkins` is nobody\'s id', async (t) => {
  const server = await start(t);
  for (const path of ['/ws/checkins', '/ws/checkins/']) assert.ok((await refusal(server, path)) >= 400);
});

test('a page of a foreign origin is refused', async (t) => {
  const server = await start(t);
  assert.ok([401, 403].includes(await refusal(server, '/ws/test-client', { origin: 'https://evil.example' })));
  await until(async () => (await request(`${server.url}/connections`)).body.total === 0);
});
