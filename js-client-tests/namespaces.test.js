// Namespaces that mirror organizations, departments and queues.

import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { clients, transportOf } from './clients.js';
import { connected, emitAck, once, startServer, subscribe, within } from './harness.js';
import { alert, backlog, kpi } from './payloads.js';

const auth = { user_id: 'user_1', organization_id: 'acme' };
const eio4 = clients.filter(({ eio }) => eio === 4);

async function refused(socket) {
  const error = await once(socket, 'connect_error');
  assert.equal(socket.connected, false);
  assert.equal(socket.active, false, 'a stock client does not retry after this');
  return error.message;
}

test('each namespace receives what happens within its scope, and nothing else', async (t) => {
  const server = await startServer(t);
  const paths = ['/org/acme', '/org/acme/dept/north', '/org/acme/queue/support', '/org/acme/dept/north/queue/support'];
  const sockets = paths.map((namespace) => server.connect({ namespace, auth }));
  await Promise.all(sockets.map(connected));

  const events = [
    [{}, [0]],
    [{ department_id: 'north' }, [0, 1]],
    [{ department_id: 'south' }, [0]],
    [{ queue_name: 'support' }, [0, 2]],
    [{ queue_name: 'sales' }, [0]],
    [{ department_id: 'north', queue_name: 'support' }, [0, 1, 2, 3]],
    [{ department_id: 'north', queue_name: 'sales' }, [0, 1]],
    [{ department_id: 'south', queue_name: 'support' }, [0, 2]],
  ];
  for (const [index, [scope, receivers]] of events.entries()) {
    await server.reaches(receivers.length, '/broadcast/kpi', kpi('acme', { ...scope, n: index }));
  }
  // Every namespace receives this one, so whatever came before it has arrived.
  const last = { department_id: 'north', queue_name: 'support', n: 'last' };
  await server.reaches(4, '/broadcast/kpi', kpi('acme', last));
  for (const [place, socket] of sockets.entries()) {
    await socket.inbox.next('message', ({ data }) => data.n === 'last');
    const expected = events.flatMap(([, receivers], index) => (receivers.includes(place) ? [index] : []));
    assert.deepEqual(socket.inbox.all('kpi:update').map(({ n }) => n), [...expected, 'last'], paths[place]);
    assert.deepEqual(socket.inbox.all('message').map(({ data }) => data.n), [...expected, 'last'], paths[place]);
  }
});

for (const { name, options } of eio4) {
  test(`${name} enters a namespace beside the main one on the same connection`, async (t) => {
    const server = await startServer(t);
    const main = await server.agent('acme', options);
    const scoped = server.adopt(main.io.socket('/org/acme/dept/north', { auth }));
    await connected(scoped);
    const hello = await scoped.inbox.next('connected');
    assert.equal(typeof hello.socket_id, 'string');
    assert.equal((await emitAck(scoped, 'client:ping', {})).pong, true);

    await server.reaches(2, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
    await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'south' }));
    await scoped.inbox.next('message', ({ department_id }) => department_id === 'north');
    await main.inbox.next('message', ({ department_id }) => department_id === 'south');
    assert.deepEqual(scoped.inbox.catalogue(), ['kpi:update', 'message(kpi:update)']);

    scoped.disconnect();
    await server.holds(1);
    assert.equal((await emitAck(main, 'client:ping', {})).pong, true);
    assert.ok(['polling', 'websocket'].includes(transportOf(main)));
  });
}

test('the channels asked for in the handshake are the ones that are received', async (t) => {
  const server = await startServer(t);
  const socket = server.connect({ namespace: '/org/acme', auth: { ...auth, channels: ['alerts', 'backlog'] } });
  await connected(socket);
  await server.reaches(0, '/broadcast/kpi', kpi('acme'));
  await server.reaches(1, '/broadcast/alert', alert('acme'));
  await server.reaches(1, '/broadcast/backlog', backlog('acme'));
  await socket.inbox.next('backlog:update');
  await socket.inbox.next('message', ({ event }) => event === 'backlog:update');
  assert.deepEqual(socket.inbox.catalogue(), [
    'alert:triggered',
    'message(alert:triggered)',
    'backlog:update',
    'message(backlog:update)',
  ]);
});

test('client events work in a namespace as they do in the main one', async (t) => {
  const server = await startServer(t);
  const socket = server.connect({ namespace: '/org/acme', auth: { ...auth, channels: ['alerts'] } });
  await connected(socket);
  assert.equal((await emitAck(socket, 'authenticate', auth)).success, true);
  const ack = await subscribe(socket, { channels: ['kpi'], department_id: 'north' });
  assert.deepEqual(ack.rooms, ['kpi:org:acme:dept:north']);
  await server.reaches(1, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
  assert.equal((await emitAck(socket, 'unsubscribe', { subscription_id: ack.subscription_id })).success, true);
  await server.reaches(0, '/broadcast/kpi', kpi('acme', { department_id: 'north' }));
  const foreign = await emitAck(socket, 'subscribe', { channels: ['kpi'], organization_id: 'other' });
  assert.equal(foreign.code, 'UNAUTHORIZED');
});

test('a namespace without credentials is refused with AUTH_FAILED', async (t) => {
  const server = await startServer(t);
  assert.match(await refused(server.connect({ namespace: '/org/acme' })), /^AUTH_FAILED\b/);
  for (const incomplete of [{}, { user_id: 'user_1' }, { organization_id: 'acme' }, { user_id: '', organization_id: 'acme' }]) {
    assert.match(await refused(server.connect({ namespace: '/org/acme', auth: incomplete })), /^AUTH_FAILED\b/);
  }
  await server.holds(0);
});

test('a namespace of another organization is refused, and the connection goes on', async (t) => {
  const server = await startServer(t);
  const main = await server.agent('acme');
  for (const namespace of ['/org/other', '/org/other/dept/north', '/org/ACME', '/org/acme%20']) {
    const message = await refused(server.adopt(main.io.socket(namespace, { auth })));
    assert.match(message, /^(UNAUTHORIZED|AUTH_FAILED)\b/, namespace);
  }
  await server.reaches(0, '/broadcast/kpi', kpi('other'));
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  await main.inbox.next('kpi:update');
  await server.holds(1);
});

test('a namespace that is not in the tree is refused', async (t) => {
  const server = await startServer(t);
  const main = await server.agent('acme');
  for (const namespace of ['/nonsense', '/org', '/org/acme/', '/org/acme/dept', '/org/acme/queue/q/dept/d', '/org/acme/room/r']) {
    const message = await refused(server.adopt(main.io.socket(namespace, { auth })));
    assert.ok(message.length > 0, namespace);
  }
  assert.equal((await emitAck(main, 'client:ping', {})).pong, true);
});

test('credentials that are wrong in the main namespace refuse it too', async (t) => {
  const server = await startServer(t);
  for (const wrong of [{ user_id: 'user_1', organization_id: 'x'.repeat(10_000) }, { user_id: 'a\u0000b', organization_id: 'acme' }]) {
    assert.match(await refused(server.connect({ auth: wrong })), /^AUTH_FAILED\b/);
  }
});

test('credentials in the handshake of the main namespace spare `authenticate`', async (t) => {
  const server = await startServer(t);
  const socket = server.connect({ auth });
  await connected(socket);
  const ack = await subscribe(socket, { channels: ['kpi'] });
  assert.deepEqual(ack.rooms, ['kpi:org:acme']);
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  await server.reaches(1, '/broadcast/backlog', backlog('acme'));
});

test('ids of any script have namespaces of their own', async (t) => {
  const server = await startServer(t);
  const ids = ['süd/ost', 'a:dept:b', 'a%3Adept%3Ab', 'komma,', '日本', 'with space'];
  const sockets = ids.map((id) =>
    server.connect({
      namespace: `/org/${encodeURIComponent(id)}/dept/north`,
      auth: { user_id: 'user_1', organization_id: id },
    }),
  );
  await Promise.all(sockets.map(connected));
  for (const id of ids) await server.reaches(1, '/broadcast/kpi', kpi(id, { department_id: 'north' }));
  for (const [index, socket] of sockets.entries()) {
    assert.equal((await socket.inbox.next('message')).organization_id, ids[index]);
    assert.deepEqual(socket.inbox.all('kpi:update').map(({ organization_id }) => organization_id), [ids[index]]);
  }
});

// Leaving and entering again on a connection that another namespace keeps open.
// No frame but the namespace's own tells the server that the client is back.
const ROUNDS = 200;
const loops = {
  'waiting for each connect': async (socket) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      socket.disconnect().connect();
      await connected(socket);
    }
  },
  'in the connect handler': async (socket) => {
    let round = 0;
    const rounds = new Promise((resolve) => {
      socket.on('connect', function again() {
        round += 1;
        if (round <= ROUNDS) socket.disconnect().connect();
        else resolve(socket.off('connect', again));
      });
    });
    socket.disconnect().connect();
    await within(rounds, () => `${ROUNDS} rounds; the client is back for the ${round}th time`, 30_000);
  },
  'without waiting, but letting answers in': async (socket) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      socket.disconnect().connect();
      await nextTurn();
    }
  },
  'in one tick': async (socket) => {
    for (let round = 0; round < ROUNDS; round += 1) socket.disconnect().connect();
  },
};

const churn = { limits: { rate_limit_messages_per_second: 100_000, max_queued_events: 100_000 } };

for (const [how, loop] of Object.entries(loops)) {
  for (const { name, options } of eio4.filter((client) => client.name.includes('4.8'))) {
    test(`${name} leaves and enters a namespace ${ROUNDS} times, ${how}, and is in it in the end`, async (t) => {
      const server = await startServer(t, { config: churn });
      const main = await server.agent('acme', { user: 'user_0', reconnection: true, reconnectionDelay: 10, ...options });
      await subscribe(main, { channels: ['alerts'] });
      const engine = main.io.engine.id;
      const scoped = server.adopt(main.io.socket('/org/acme', { auth }));
      await connected(scoped);

      await loop(scoped);
      await connected(scoped);
      await server.holds(2);

      assert.equal((await emitAck(scoped, 'client:ping', { timestamp: 1 })).timestamp, 1);
      await server.reaches(2, '/broadcast/backlog', backlog('acme', { n: 'after' }));
      await scoped.inbox.next('message', ({ data }) => data.n === 'after');
      assert.equal(scoped.inbox.all('backlog:update').filter(({ n }) => n === 'after').length, 1);
      assert.equal(main.io.engine.id, engine, 'the connection itself was not cut');
      scoped.disconnect();
      await server.holds(1);
    });
  }

  test(`the main namespace is left and entered ${ROUNDS} times, ${how}, while another keeps the connection open`, async (t) => {
    const server = await startServer(t, { config: churn });
    const main = server.connect({ auth, reconnection: true, reconnectionDelay: 10 });
    await connected(main);
    const engine = main.io.engine.id;
    const scoped = server.adopt(main.io.socket('/org/acme/dept/north', { auth }));
    await connected(scoped);

    await loop(main);
    await connected(main);
    // Answered behind everything the loop has sent, so that the last round is over.
    assert.equal((await emitAck(main, 'client:ping', { timestamp: 1 })).timestamp, 1);
    await server.holds(2);

    await server.reaches(2, '/broadcast/kpi', kpi('acme', { department_id: 'north', n: 'after' }));
    for (const socket of [main, scoped]) {
      await socket.inbox.next('message', ({ data }) => data.n === 'after');
      assert.equal(socket.inbox.all('kpi:update').filter(({ n }) => n === 'after').length, 1);
    }
    assert.equal(main.io.engine.id, engine, 'the connection itself was not cut');
  });
}
