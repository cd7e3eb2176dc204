// AV-Gym: every version of its frontend, unmodified, against the server of `examples/gym`.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { request, startServer } from './harness.js';
import { intake, openPlain, token, wsUrl } from './plain.js';
import { openProxy } from './proxy.js';
import { FirstService, LatestService, MessageService, accessToken, address, listen, openAll, shows, tour } from './frontends/gym.js';

const start = (t, environment) => startServer(t, { example: 'gym', environment });

/** Today's page, logged in. */
async function latest(server, { user = 1, url = address(server), ...options } = {}) {
  const service = listen(server.keep(new LatestService({ url, ...options })));
  service.setAuthToken(accessToken(user));
  await shows(service, 'initial_stats');
  return service;
}

const bad = {
  'an expired token': accessToken(1, { lifetime_s: -3_600 }),
  'a token of another secret': accessToken(1, { secret: 'x'.repeat(40) }),
  'a token without a user': token({ token_type: 'access' }),
  'something else': 'demo-token',
};

test('every version checks members in and out, and sees the others do it', async (t) => {
  await tour(await start(t));
});

test('both spellings of the path are one door', async (t) => {
  const server = await start(t);
  for (const path of ['/ws/checkins', '/ws/checkins/']) {
    const socket = await openPlain(server, `${path}?token=${accessToken(1)}`);
    assert.equal((await socket.frames.next('auth_response')).payload.success, true);
    const stats = await socket.frames.next('initial_stats');
    assert.deepEqual(Object.keys(stats.payload).toSorted(), ['averageStayMinutes', 'currentlyIn', 'timestamp', 'todayTotal']);
  }
});

for (const [name, jwt] of Object.entries(bad)) {
  test(`${name} is answered, and closed with 4001`, async (t) => {
    const server = await start(t);
    const socket = await openPlain(server, `/ws/checkins/?token=${jwt}`);
    const { payload } = await socket.frames.next('auth_response');
    assert.equal(payload.success, false);
    assert.equal(typeof payload.message, 'string');
    assert.equal(await socket.end(), 4001);
    assert.deepEqual(socket.frames.all('initial_stats'), []);

    const page = server.keep(new LatestService({ url: address(server) }));
    page.setAuthToken(jwt);
    assert.equal((await page.closed()).code, 4001);
    assert.equal(page.status, 'authentication_failed');
    // It stays away until it is given another token.
    page.setAuthToken(accessToken(1));
    await page.frames.next('initial_stats');
    assert.equal(page.opens, 2);
    await server.holds(1);
  });

  test(`${name} in a message is answered, and the connection ends`, async (t) => {
    const server = await start(t, { TIERCAST__AUTH__AUTH_TIMEOUT_MS: '500' });
    const page = server.keep(new MessageService({ url: address(server) }));
    page.setAuthToken(jwt);
    const error = await page.frames.next('authentication_error');
    assert.equal(typeof error.message, 'string');
    assert.equal(page.failure, error.message, 'where the later ones read it');
    await page.closed();
    assert.equal(page.authenticated, false);
  });
}

test('the first version is told of a bad token, and goes on trying', async (t) => {
  const server = await start(t);
  const page = server.keep(new FirstService({ url: address(server) }));
  page.token = accessToken(1, { lifetime_s: -3_600 });
  page.mount();
  await page.closed(3);
  assert.ok(page.statuses.includes('authentication_failed'), page.statuses.join());
  page.token = accessToken(1);
  await page.frames.next('initial_stats');
});

test('a page without a token may wait for one, but not for ever', async (t) => {
  const server = await start(t, { TIERCAST__AUTH__AUTH_TIMEOUT_MS: '2000' });
  const socket = await openPlain(server, '/ws/checkins/');
  socket.send({ type: 'heartbeat' });
  await socket.frames.next('heartbeat_ack');
  socket.send({ type: 'check_in', data: { memberId: 'member-1' } });
  await intake(server, '/api/ws/gym/notifications', { message: 'for pages only' });
  assert.equal(await socket.end(), 4001);
  assert.ok(socket.frames.names().some((name) => ['error', 'check_in_error'].includes(name)), socket.frames.summary());
  assert.deepEqual(socket.frames.all('check_in_success'), []);
  assert.deepEqual(socket.frames.all('notification'), []);
});

test('check-ins that were queued while nobody answered are sent when it opens', async (t) => {
  const server = await start(t);
  const watcher = await latest(server, { user: 9 });
  for (const make of [
    (options) => new FirstService(options),
    (options) => new MessageService(options),
    (options) => new LatestService(options),
  ]) {
    const page = listen(server.keep(make({ url: address(server), pace: 0.05 })));
    const name = `queued-${page.constructor.name}`;
    page.checkIn(name);
    page.token = accessToken(1);
    page.connect();
    assert.equal((await shows(page, 'check_in_success')).member.id, name);
    await shows(watcher, 'check_in_update', ({ member }) => member.id === name);
  }
});

test('what is wrong with a check-in is told to who sent it, and to nobody else', async (t) => {
  const server = await start(t);
  const [page, other] = [await latest(server), await latest(server, { user: 2 })];
  page.checkIn('member-1');
  const { id, member } = await shows(page, 'check_in_success');
  page.checkIn('member-1');
  assert.equal((await shows(page, 'check_in_error')).error, `${member.full_name} is already checked in`);
  page.checkOut('no-such-check-in');
  assert.equal((await shows(page, 'check_out_error')).error, 'Check-in not found or already checked out');
  page.checkOut(id);
  await shows(page, 'check_out_success');
  page.checkOut(id);
  assert.equal((await shows(page, 'check_out_error')).error, 'Check-in not found or already checked out');
  await shows(other, 'member_checked_out');
  const told = other.frames.names().filter((name) => /_(error|success)$/.test(name));
  assert.deepEqual(told, []);
});

test('members are known from a file, and others are refused if that is asked for', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'tiercast-members-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'members.json');
  await writeFile(file, JSON.stringify([{ id: 'm1', full_name: 'Zoë Ångström', email: 'zoe@example.org', membership_type: 'gold' }]));
  const server = await start(t, { TIERCAST__DOORS__GYM__MEMBERS_FILE: file, TIERCAST__DOORS__GYM__UNKNOWN_MEMBERS: 'refuse' });
  const page = await latest(server);
  page.checkIn('m2');
  assert.equal((await shows(page, 'check_in_error')).error, 'Member not found');
  page.checkIn('m1');
  const { member } = await shows(page, 'check_in_success');
  assert.deepEqual([member.full_name, member.email, member.membership_type], ['Zoë Ångström', 'zoe@example.org', 'gold']);
});

test('events that come together are one batch, grouped by type', async (t) => {
  const server = await start(t, { TIERCAST__DOORS__GYM__BATCH_MS: '100' });
  const pages = await openAll(server);
  const messages = Array.from({ length: 20 }, (_, n) => `message ${n}`);
  await Promise.all([
    ...messages.map((message) => intake(server, '/api/ws/gym/notifications', { message })),
    ...[1, 2].map((id) => intake(server, '/api/ws/gym/members', { id: `m${id}`, full_name: 'N', status: 'active' })),
  ]);
  for (const page of pages) {
    const seen = [];
    while (seen.length < messages.length) seen.push((await shows(page, 'notification')).message);
    assert.deepEqual(seen.toSorted(), messages.toSorted());
    await shows(page, 'member_update', ({ id }) => id === 'm2');
    const batches = page.frames.all('batch');
    assert.ok(batches.length > 0 && batches.length < messages.length, `${batches.length} batches`);
    for (const { payload, batches: top } of batches) {
      assert.equal(top, undefined, 'batches are in the payload');
      for (const payloads of Object.values(payload.batches)) assert.ok(Array.isArray(payloads) && payloads.length > 0);
    }
  }
});

test('without a window each event is a frame of its own', async (t) => {
  const server = await start(t, { TIERCAST__DOORS__GYM__BATCH_MS: '0' });
  const page = await latest(server);
  for (let n = 0; n < 5; n += 1) await intake(server, '/api/ws/gym/notifications', { message: `${n}` });
  await shows(page, 'notification', ({ message }) => message === '4');
  assert.deepEqual(page.frames.all('notification').map(({ payload }) => payload.message), ['0', '1', '2', '3', '4']);
  assert.deepEqual(page.frames.all('batch'), []);
});

test('a batch of the client is taken apart, whatever its types', async (t) => {
  const server = await start(t);
  const page = await latest(server);
  page.socket.send(
    JSON.stringify({
      type: 'batch',
      batches: { check_in: [{ memberId: 'm1' }, { member_id: 'm2' }], heartbeat: [{}], notification: ['forged'] },
      metadata: { count: 4, timestamp: Date.now(), compression: 'grouped' },
    }),
  );
  const ids = [await shows(page, 'check_in_success'), await shows(page, 'check_in_success')].map(({ member }) => member.id);
  assert.deepEqual(ids, ['m1', 'm2']);
  await page.frames.next('heartbeat_ack');
  // What its own batcher makes of updates tells nobody anything.
  page.send('check_in_update', { id: 'forged', status: 'checked_in' });
  page.send('notification', { message: 'forged' });
  page.sendBatch();
  await intake(server, '/api/ws/gym/notifications', { message: 'real' });
  await shows(page, 'notification', ({ message }) => message === 'real');
  page.socket.send(JSON.stringify({ type: 'ping' }));
  await page.frames.next('pong');
  assert.ok(!page.shown.some(({ payload }) => payload.id === 'forged' || payload.message === 'forged'));
});

test('the page of today asks to reconnect, and is not answered', async (t) => {
  const server = await start(t);
  const page = await latest(server);
  page.send('reconnect');
  page.socket.send(JSON.stringify({ type: 'ping' }));
  await page.frames.next('pong');
  assert.deepEqual(page.frames.all('error'), []);
});

test('every spelling of a check-in is understood', async (t) => {
  const server = await start(t);
  const socket = await openPlain(server, `/ws/checkins/?token=${accessToken(1)}`);
  const ways = [
    { data: { member_id: 'a' } },
    { data: { memberId: 'b', timestamp: '2025-07-28T10:00:00Z', location: 'Front desk', notes: 'n' } },
    { payload: { member_id: 'c' } },
    { payload: { memberId: 'd' } },
    { member_id: 'e' },
    { memberId: 'f' },
  ];
  const ids = [];
  for (const way of ways) {
    socket.send({ type: 'check_in', ...way });
    const { payload } = await socket.frames.next('check_in_success');
    ids.push(payload.id);
    if (way.data?.location) assert.deepEqual([payload.location, payload.notes], ['Front desk', 'n']);
    else assert.notEqual(payload.location, null);
  }
  const outs = [{ data: { check_in_id: ids[0] } }, { data: { checkInId: ids[1] } }, { payload: { checkInId: ids[2] } }, { check_in_id: ids[3] }];
  for (const [n, way] of outs.entries()) {
    socket.send({ type: 'check_out', ...way });
    assert.equal((await socket.frames.next('check_out_success')).payload.id, ids[n]);
  }
});

for (const [name, make] of Object.entries({
  FirstService: (options) => new FirstService(options),
  MessageService: (options) => new MessageService(options),
  // Its delay is always the longest.
  LatestService: (options) => new LatestService({ ...options, pace: 0.005 }),
})) {
  test(`${name} comes back over a broken connection with what it queued, and after a restart`, async (t) => {
    const server = await start(t);
    const proxy = await openProxy(t, server);
    const page = listen(server.keep(make({ url: wsUrl(proxy, '/ws/checkins/'), pace: 0.05 })));
    page.token = accessToken(1);
    page.connect();
    await shows(page, 'initial_stats');
    proxy.cut();
    assert.equal((await page.closed()).code, 1006);
    page.checkIn('meanwhile');
    proxy.restore();
    await shows(page, 'initial_stats');
    assert.equal((await shows(page, 'check_in_success')).member.id, 'meanwhile');

    const closes = page.closes.length;
    await server.terminate();
    const { code } = await page.closed(closes + 1);
    assert.ok(![1000, 4001].includes(code), `a page would not come back after ${code}`);
    await page.closed(closes + 2);
  });
}

test('members are checked in by pages, and not over HTTP', async (t) => {
  const server = await start(t);
  for (const [method, path] of [['POST', '/api/ws/gym/check-ins'], ['GET', '/api/ws/gym/stats']]) {
    const { status } = await request(server.url + path, { method });
    assert.ok([404, 405].includes(status), `${method} ${path}: ${status}`);
  }
});
