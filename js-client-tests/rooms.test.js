// Who receives what: an event at a scope reaches every subscription whose scope contains it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { emitAck, startServer, subscribe } from './harness.js';
import { alert, attendance, backlog, kpi } from './payloads.js';
import { assertShape } from './shape.js';

/** Publishes something that these sockets all receive, and waits for it: whatever was published before has arrived. */
async function settle(server, organization, sockets) {
  const marker = `marker ${(settle.count = (settle.count ?? 0) + 1)}`;
  const data = { message: marker };
  const target = { organization_id: organization };
  const { status } = await server.publish('/broadcast', { event: 'system:broadcast', data, target });
  assert.equal(status, 200);
  for (const socket of sockets) await socket.inbox.next('message', ({ data }) => data.message === marker);
}

/** The catalogue events that a socket received by name, without the markers. */
function names(socket) {
  return socket.inbox.catalogue().filter((name) => !name.startsWith('message(') && name !== 'system:broadcast');
}

/** An agent that receives nothing but what it subscribes to here. */
async function onlySubscriber(server, organization, subscription, user) {
  const socket = await server.agent(organization, { user });
  assert.equal((await emitAck(socket, 'unsubscribe', {})).success, true);
  if (subscription) await subscribe(socket, subscription);
  return socket;
}

test('an event reaches the subscribers of every scope that contains it, each once', async (t) => {
  const server = await startServer(t);
  const scopes = {
    org: {},
    north: { department_id: 'north' },
    south: { department_id: 'south' },
    support: { queue_name: 'support' },
    northSupport: { department_id: 'north', queue_name: 'support' },
  };
  const sockets = {};
  for (const [name, scope] of Object.entries(scopes)) {
    sockets[name] = await server.subscriber('acme', { channels: ['kpi'], ...scope }, { user: name });
  }
  assert.deepEqual(
    Object.values(sockets).map(({ subscription }) => subscription.rooms),
    [
      ['kpi:org:acme'],
      ['kpi:org:acme:dept:north'],
      ['kpi:org:acme:dept:south'],
      ['kpi:org:acme:queue:support'],
      ['kpi:org:acme:dept:north:queue:support'],
    ],
  );

  const rule = [
    [{}, ['org']],
    [{ department_id: 'north' }, ['org', 'north']],
    [{ department_id: 'south' }, ['org', 'south']],
    [{ department_id: 'west' }, ['org']],
    [{ queue_name: 'support' }, ['org', 'support']],
    [{ queue_name: 'sales' }, ['org']],
    [{ department_id: 'north', queue_name: 'support' }, ['org', 'north', 'support', 'northSupport']],
    [{ department_id: 'north', queue_name: 'sales' }, ['org', 'north']],
    [{ department_id: 'south', queue_name: 'support' }, ['org', 'south', 'support']],
  ];
  for (const [n, [scope, receivers]] of rule.entries()) {
    await server.reaches(receivers.length, '/broadcast/kpi', kpi('acme', { ...scope, n }));
  }
  await settle(server, 'acme', Object.values(sockets));
  for (const [name, { inbox }] of Object.entries(sockets)) {
    const expected = rule.flatMap(([, receivers], n) => (receivers.includes(name) ? [n] : []));
    assert.deepEqual(inbox.all('kpi:update').map(({ n }) => n), expected, name);
    const envelopes = inbox.all('message').filter(({ event }) => event === 'kpi:update');
    assert.deepEqual(envelopes.map(({ data }) => data.n), expected, name);
  }
});

test('a socket in many matching rooms receives an event once per form', async (t) => {
  const server = await startServer(t);
  const socket = await server.subscriber('acme', { channels: ['all'] });
  await subscribe(socket, { channels: ['kpi', 'alerts'] });
  await subscribe(socket, { channels: ['kpi'], department_id: 'north' });
  await subscribe(socket, { channels: ['kpi', 'alerts'], department_id: 'north', queue_name: 'support' });
  const scope = { department_id: 'north', queue_name: 'support' };
  await server.reaches(1, '/broadcast/kpi', kpi('acme', scope));
  await server.reaches(1, '/broadcast', { event: 'kpi:alert', data: { organization_id: 'acme', ...scope, severity: 'error' } });
  await settle(server, 'acme', [socket]);
  assert.deepEqual(names(socket), ['kpi:update', 'kpi:alert']);
  assert.deepEqual(socket.inbox.all('message').map(({ event }) => event), ['kpi:update', 'kpi:alert', 'system:broadcast']);
});

test('two organizations with the same departments and queues never see each other', async (t) => {
  const server = await startServer(t);
  const scope = { department_id: 'north', queue_name: 'support' };
  const sockets = {};
  for (const organization of ['acme', 'globex']) {
    sockets[organization] = [
      await server.agent(organization),
      await server.subscriber(organization, { channels: ['all'] }),
      await server.subscriber(organization, { channels: ['kpi', 'alerts'], ...scope }),
      await server.subscriber(organization, { channels: ['kpi'], department_id: 'north' }),
    ];
  }
  for (const organization of ['acme', 'globex']) {
    await server.reaches(4, '/broadcast/kpi', kpi(organization, scope));
    await server.reaches(4, '/broadcast/alert', alert(organization, scope));
    await server.reaches(4, '/broadcast', {
      event: 'system:notification',
      data: { message: organization },
      target: { organization_id: organization },
    });
  }
  for (const organization of ['acme', 'globex']) {
    await settle(server, organization, sockets[organization]);
    for (const { inbox } of sockets[organization]) {
      for (const { organization_id } of inbox.all('message')) assert.equal(organization_id, organization);
      for (const { organization_id } of inbox.all('kpi:update')) assert.equal(organization_id, organization);
      assert.deepEqual(inbox.all('system:notification'), [{ message: organization }]);
    }
  }
});

test('no id forges the separator of another room', async (t) => {
  const server = await startServer(t);
  const ids = ['acme', 'acme:dept:north', 'acme%3Adept%3Anorth', 'acme/dept/north', 'acme,north', 'ACME', 'acme '];
  const sockets = [];
  for (const id of ids) sockets.push(await server.subscriber(id, { channels: ['kpi'] }));
  const department = await server.subscriber('acme', { channels: ['kpi'], department_id: 'north' }, { user: 'user_2' });
  assert.equal(new Set(sockets.map(({ subscription }) => subscription.rooms[0])).size, ids.length);
  for (const id of ids) await server.reaches(1, '/broadcast/kpi', kpi(id));
  await server.reaches(2, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
  for (const [index, socket] of sockets.entries()) await settle(server, ids[index], [socket]);
  for (const [index, { inbox }] of sockets.entries()) {
    assert.deepEqual([...new Set(inbox.all('kpi:update').map(({ organization_id }) => organization_id))], [ids[index]]);
  }
  assert.equal(department.inbox.all('kpi:update').length, 1);
});

test('`system:*` events go down to every socket of their scope, whatever it subscribed to', async (t) => {
  const server = await startServer(t);
  const quiet = await onlySubscriber(server, 'acme', null, 'quiet');
  const north = await onlySubscriber(server, 'acme', { channels: ['kpi'], department_id: 'north' }, 'north');
  const support = await onlySubscriber(server, 'acme', { channels: ['kpi'], department_id: 'north', queue_name: 'support' }, 'support');
  const south = await onlySubscriber(server, 'acme', { channels: ['kpi'], department_id: 'south' }, 'south');
  const stranger = await server.agent('globex');
  const everyone = [quiet, north, support, south];

  const notify = (message, target) => ({ event: 'system:notification', data: { message }, target });
  await server.reaches(4, '/broadcast', notify('org', { organization_id: 'acme' }));
  await server.reaches(2, '/broadcast', notify('north', { organization_id: 'acme', department_id: 'north' }));
  await server.reaches(1, '/broadcast', notify('support', { organization_id: 'acme', department_id: 'north', queue_name: 'support' }));
  await server.reaches(5, '/broadcast', notify('everyone'));

  await settle(server, 'acme', everyone);
  await settle(server, 'globex', [stranger]);
  const heard = (socket) => socket.inbox.all('system:notification').map(({ message }) => message);
  assert.deepEqual(heard(quiet), ['org', 'everyone']);
  assert.deepEqual(heard(north), ['org', 'north', 'everyone']);
  assert.deepEqual(heard(support), ['org', 'north', 'support', 'everyone']);
  assert.deepEqual(heard(south), ['org', 'everyone']);
  assert.deepEqual(heard(stranger), ['everyone']);
});

test('the first subscription to a channel ends the implicit one for that channel only', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { n: 'implicit' }));
  await subscribe(socket, { channels: ['kpi'], department_id: 'north' });
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { n: 'no longer' }));
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'north', n: 'subscribed' }));
  await server.reaches(1, '/broadcast/backlog', backlog('acme'));
  await server.reaches(1, '/broadcast/attendance', attendance('acme', { department_id: 'south' }));
  await server.reaches(1, '/broadcast/alert', alert('acme'));
  await settle(server, 'acme', [socket]);
  assert.deepEqual(socket.inbox.all('kpi:update').map(({ n }) => n), ['implicit', 'subscribed']);
  assert.deepEqual(names(socket), ['kpi:update', 'kpi:update', 'backlog:update', 'attendance:update', 'alert:triggered']);
});

test('subscribing to `all` ends the implicit subscription wholly', async (t) => {
  const server = await startServer(t);
  const socket = await server.subscriber('acme', { channels: ['all'], department_id: 'north' });
  assert.deepEqual(socket.subscription.rooms, ['all:org:acme:dept:north']);
  await server.reaches(0, '/broadcast/backlog', backlog('acme'));
  await server.reaches(1, '/broadcast/backlog', backlog('acme', { department_id: 'north' }));
  await server.reaches(1, '/broadcast/alert', alert('acme', { department_id: 'north' }));
  await settle(server, 'acme', [socket]);
  assert.deepEqual(names(socket), ['backlog:update', 'alert:triggered']);
});

test('presence is received only by those who name it', async (t) => {
  const server = await startServer(t);
  await server.agent('acme', { user: 'implicit' });
  await server.subscriber('acme', { channels: ['all'] }, { user: 'all' });
  const named = await server.subscriber('acme', { channels: ['presence'] }, { user: 'named' });
  const data = { organization_id: 'acme', user_id: 'user_9', status: 'online', last_seen: null, timestamp: '2024-01-15T10:30:00.000Z' };
  await server.reaches(1, '/broadcast', { event: 'presence:update', data });
  assert.deepEqual(await named.inbox.next('presence:update', ({ user_id }) => user_id === 'user_9'), data);
});

test('every `*:alert` reaches the subscribers of alerts too', async (t) => {
  const server = await startServer(t);
  const alerts = await onlySubscriber(server, 'acme', { channels: ['alerts'], queue_name: 'support' }, 'alerts');
  const kpis = await onlySubscriber(server, 'acme', { channels: ['kpi'], queue_name: 'support' }, 'kpis');
  const data = { organization_id: 'acme', queue_name: 'support', severity: 'error' };
  await server.reaches(2, '/broadcast', { event: 'kpi:alert', data });
  await server.reaches(1, '/broadcast', { event: 'backlog:alert', data });
  await server.reaches(1, '/broadcast', { event: 'attendance:alert', data });
  await settle(server, 'acme', [alerts, kpis]);
  assert.deepEqual(names(alerts), ['kpi:alert', 'backlog:alert', 'attendance:alert']);
  assert.deepEqual(names(kpis), ['kpi:alert']);
});

test('filters let through what matches, and what lacks the field', async (t) => {
  const server = await startServer(t);
  const filtered = async (user, filters) => server.subscriber('acme', { channels: ['alerts'], filters }, { user });
  const severe = await filtered('severe', { min_severity: 'error' });
  const sourced = await filtered('sourced', { sources: ['kpi', 'schedule'] });
  const resolved = await filtered('resolved', { statuses: ['resolved'] });
  const strict = await filtered('strict', { min_severity: 'critical', sources: ['kpi'], statuses: ['active'] });
  const sockets = [severe, sourced, resolved, strict];

  const published = [
    [{ severity: 'info', source: 'backlog', status: 'active' }, []],
    [{ severity: 'error', source: 'backlog', status: 'active' }, [severe]],
    [{ severity: 'info', source: 'schedule', status: 'active' }, [sourced]],
    [{ severity: 'warning', source: 'system', status: 'resolved' }, [resolved]],
    [{ severity: 'critical', source: 'kpi', status: 'active' }, [severe, sourced, strict]],
    [{ severity: undefined, source: undefined, status: undefined }, sockets],
  ];
  for (const [fields, receivers] of published) {
    await server.reaches(receivers.length, '/broadcast', { event: 'alert:escalated', data: alert('acme', fields) });
  }
  await settle(server, 'acme', sockets);
  for (const socket of sockets) {
    const expected = published.flatMap(([{ severity }, receivers]) => (receivers.includes(socket) ? [severity] : []));
    assert.deepEqual(socket.inbox.all('alert:escalated').map(({ severity }) => severity), expected);
  }
});

test('a second subscription of one scope replaces the first', async (t) => {
  const server = await startServer(t);
  const socket = await server.subscriber('acme', { channels: ['alerts'], filters: { min_severity: 'critical' } });
  await server.reaches(0, '/broadcast/alert', alert('acme', { severity: 'info' }));
  const second = await subscribe(socket, { channels: ['alerts'] });
  assert.notEqual(second.subscription_id, socket.subscription.subscription_id);
  await server.reaches(1, '/broadcast/alert', alert('acme', { severity: 'info' }));
  assert.equal((await emitAck(socket, 'unsubscribe', { subscription_id: second.subscription_id })).success, true);
  await server.reaches(0, '/broadcast/alert', alert('acme', { severity: 'critical' }));
});

test('unsubscribing by id, by channel and wholly ends exactly that', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const north = await subscribe(socket, { channels: ['kpi'], department_id: 'north' });
  await subscribe(socket, { channels: ['kpi'], department_id: 'south' });
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));

  assert.equal((await emitAck(socket, 'unsubscribe', { subscription_id: north.subscription_id })).success, true);
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'south' }));

  assert.equal((await emitAck(socket, 'client:unsubscribe', { channels: ['kpi'] })).success, true);
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { department_id: 'south' }));

  // Implicit subscriptions can be left too, each by itself.
  await server.reaches(1, '/broadcast/backlog', backlog('acme'));
  assert.equal((await emitAck(socket, 'unsubscribe', { channels: ['backlog'] })).success, true);
  await server.reaches(0, '/broadcast/backlog', backlog('acme'));
  await server.reaches(1, '/broadcast/attendance', attendance('acme'));

  assert.equal((await emitAck(socket, 'unsubscribe', {})).success, true);
  await server.reaches(0, '/broadcast/attendance', attendance('acme'));
  await server.reaches(0, '/broadcast/alert', alert('acme'));

  for (const nothing of [{ channels: ['kpi'] }, { subscription_id: north.subscription_id }, { subscription_id: 'sub_1_x' }]) {
    const ack = await emitAck(socket, 'unsubscribe', nothing);
    assert.equal(ack.success, false, JSON.stringify(nothing));
    assert.equal(ack.code, 'ROOM_NOT_FOUND', JSON.stringify(nothing));
  }
  await subscribe(socket, { channels: ['kpi'] });
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('subscribing is refused before authenticating, to others and to what is unknown', async (t) => {
  const server = await startServer(t);
  const anonymous = server.connect();
  const refusal = async (socket, payload, code) => {
    const ack = await emitAck(socket, 'subscribe', payload);
    assertShape('subscribe-refused', ack);
    assert.equal(ack.code, code);
    assert.equal((await socket.inbox.next('error')).code, code);
  };
  await refusal(anonymous, { channels: ['kpi'], organization_id: 'acme' }, 'UNAUTHORIZED');
  const socket = await server.agent('acme');
  await refusal(socket, { channels: ['kpi'], organization_id: 'globex' }, 'UNAUTHORIZED');
  await refusal(socket, { channels: ['kpis'] }, 'INVALID_MESSAGE');
  await refusal(socket, { channels: ['kpi', 'kpis'] }, 'INVALID_MESSAGE');
  await server.reaches(0, '/broadcast/kpi', kpi('globex'));
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
});

test('`client:subscribe` is another name of `subscribe`', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const ack = await emitAck(socket, 'client:subscribe', { channels: ['kpi', 'alerts'], queue_name: 'support' });
  assert.equal(ack.success, true);
  assert.deepEqual(ack.subscribed_channels, ['kpi', 'alerts']);
  assert.deepEqual(ack.rooms, ['kpi:org:acme:queue:support', 'alerts:org:acme:queue:support']);
});

test('users and sockets that a publication names are reached within its organization', async (t) => {
  const server = await startServer(t);
  const anna = await server.agent('acme', { user: 'anna' });
  const annaAgain = await server.agent('acme', { user: 'anna' });
  const ben = await server.agent('acme', { user: 'ben' });
  const stranger = await server.agent('globex', { user: 'anna' });
  const publish = (n, target) => ({ event: 'kpi:computed', data: { n }, target: { organization_id: 'acme', ...target } });

  await server.reaches(2, '/broadcast', publish(1, { user_ids: ['anna'] }));
  await server.reaches(1, '/broadcast', publish(2, { socket_ids: [ben.publicId] }));
  await server.reaches(3, '/broadcast', publish(3, { user_ids: ['anna'], socket_ids: [ben.publicId] }));
  await server.reaches(1, '/broadcast', publish(4, { user_ids: ['anna'], except_socket_ids: [anna.publicId] }));
  await server.reaches(0, '/broadcast', publish(5, { user_ids: ['nobody'] }));
  await server.reaches(2, '/broadcast', publish(6, { except_socket_ids: [ben.publicId] }));

  await settle(server, 'acme', [anna, annaAgain, ben]);
  await settle(server, 'globex', [stranger]);
  const heard = ({ inbox }) => inbox.all('kpi:computed').map(({ n }) => n);
  assert.deepEqual(heard(anna), [1, 3, 6]);
  assert.deepEqual(heard(annaAgain), [1, 3, 4, 6]);
  assert.deepEqual(heard(ben), [2, 3]);
  assert.deepEqual(heard(stranger), []);
});

test('a publication without a target or of an unknown event reaches nobody', async (t) => {
  const server = await startServer(t);
  const socket = await server.agent('acme');
  const faults = [
    { event: 'kpi:update', data: { health_score: 85 } },
    { event: 'kpi:unheard-of', data: { organization_id: 'acme' } },
    { data: { organization_id: 'acme' } },
    { event: 'kpi:update', target: { organization_id: 'acme' } },
    { event: 'kpi:update', data: { organization_id: 'a\u0000b' } },
    { event: 'kpi:update', data: { organization_id: 'x'.repeat(10_000) } },
    { event: 'kpi:update', data: { organization_id: '' } },
    '{"event": "kpi:update", ',
  ];
  for (const body of faults) {
    const answer = await server.publish('/broadcast', body);
    const what = JSON.stringify(body).slice(0, 100);
    assert.equal(answer.status, 400, what);
    assertShape('http-error', answer.body);
    assert.equal(answer.body.code, 'INVALID_MESSAGE', what);
  }
  await settle(server, 'acme', [socket]);
  assert.deepEqual(names(socket), []);
});
