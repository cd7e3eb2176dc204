// Nodes of a cluster behind nginx: with sticky sessions, and without.

import assert from 'node:assert/strict';
import http from 'node:http';
import test from 'node:test';
import { clients, upgraded } from './clients.js';
import { startNginx, startNodes } from './cluster.js';
import { connected, emitAck, subscribe, until } from './harness.js';
import { kpi } from './payloads.js';

const comesBack = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

/** A client through nginx, from an address of its own. */
async function visitor(nodes, nginx, number, { options, upgrades } = clients[0], more = {}) {
  const agent = new http.Agent({ localAddress: `127.0.1.${number}` });
  const socket = nodes[0].connect({ ...options, ...more, url: nginx.url, agent });
  const goesOver = upgrades && upgraded(socket);
  await connected(socket);
  const auth = { user_id: `user_${number}`, organization_id: 'acme' };
  assert.equal((await emitAck(socket, 'authenticate', auth)).success, true);
  await goesOver;
  return socket;
}

/** Publishes through any node until the clients have heard it, each once. */
async function hear(nodes, sockets, n) {
  for (const [number, node] of nodes.entries()) {
    const data = { ...kpi('acme'), n, number };
    const { status, body } = await node.publish('/broadcast', { event: 'kpi:update', data });
    assert.equal(status, 200, JSON.stringify(body));
  }
  for (const socket of sockets) {
    for (const number of nodes.keys()) {
      await socket.inbox.next('kpi:update', (payload) => payload.n === n && payload.number === number);
    }
  }
}

/** Ends all clients; what nginx has passed on for them, of which nothing was refused. */
async function whatPassed(nodes, nginx, sockets, visitors) {
  const refused = (passed) => passed.filter(({ status }) => status !== 101 && status !== 200);
  assert.deepEqual(refused(await nginx.passed()), []);
  for (const socket of sockets) socket.disconnect();
  await until(async () => (await nodes[0].get('/connections')).body.total_count === 0, () => 'all to be gone');
  let passed;
  // nginx writes of a WebSocket when that ends.
  const webSockets = visitors.filter(({ options }) => options.transports.includes('websocket')).length;
  const over = async () => {
    passed = await nginx.passed();
    return passed.filter(({ status }) => status === 101).length === webSockets;
  };
  await until(over, () => `nginx to have written of ${webSockets} WebSockets; it has of ${JSON.stringify(passed)}`);
  // A poll that is on its way when its client closes the session finds none.
  assert.deepEqual(refused(passed).filter(({ method, status }) => method !== 'GET' || status !== 400), []);
  return passed;
}

/** Waits until a node has all these clients, and they know. */
async function haveCome(node, sockets) {
  const count = async () => (await node.get('/connections')).body.total_count;
  await until(async () => (await count()) === sockets.length, () => 'the clients to be at the other node');
  await until(() => sockets.every((socket) => socket.connected), () => 'the clients to know it');
}

test('without sticky sessions every client is served, whichever nodes it comes to', async (t) => {
  const nodes = await startNodes(t, 2, { passOn: true });
  const nginx = await startNginx(t, 'any-node.conf', nodes);
  const sockets = [];
  for (const [number, client] of clients.entries()) sockets.push(await visitor(nodes, nginx, number + 1, client));
  for (const n of [1, 2, 3]) await hear(nodes, sockets, n);
  for (const socket of sockets) assert.equal((await emitAck(socket, 'client:ping')).pong, true);

  const { body } = await nodes[0].get('/connections');
  const addresses = body.connections.map(({ ip_address }) => ip_address.split(':')[0]).sort();
  assert.deepEqual(addresses, clients.map((_, number) => `127.0.1.${number + 1}`), 'the clients, and not nginx');

  const passed = await whatPassed(nodes, nginx, sockets, clients);
  // What this is about has happened: requests of one session on polling have been at both nodes.
  for (const [number, { name, options }] of clients.entries()) {
    if (options.transports[0] !== 'polling') continue;
    const own = passed.filter(({ address }) => address === `127.0.1.${number + 1}`);
    assert.deepEqual([...new Set(own.flatMap((request) => request.nodes))].sort(), [0, 1], name);
  }
});

test('with sticky sessions each client stays at a node, and nodes need not know each other', async (t) => {
  const nodes = await startNodes(t, 2);
  const nginx = await startNginx(t, 'sticky.conf', nodes);
  // So many that nginx cannot have given all of them to one node by chance.
  const visitors = [clients, clients, clients].flat();
  const sockets = [];
  for (const [number, client] of visitors.entries()) sockets.push(await visitor(nodes, nginx, number + 1, client));
  for (const n of [1, 2]) await hear(nodes, sockets, n);
  const passed = await whatPassed(nodes, nginx, sockets, visitors);
  const homes = visitors.map((_, number) => {
    const own = passed.filter(({ address }) => address === `127.0.1.${number + 1}`);
    return [...new Set(own.flatMap((request) => request.nodes))];
  });
  assert.ok(homes.every((home) => home.length === 1), `each at one node: ${JSON.stringify(homes)}`);
  assert.equal(new Set(homes.flat()).size, 2, 'both nodes have some');
});

for (const { example, passOn } of [
  { example: 'any-node.conf', passOn: true },
  { example: 'sticky.conf', passOn: false },
]) {
  test(`a node that is killed is passed over (${example})`, async (t) => {
    const nodes = await startNodes(t, 2, { passOn });
    const nginx = await startNginx(t, example, nodes);
    const sockets = [];
    for (let number = 1; number <= 6; number += 1) {
      sockets.push(await visitor(nodes, nginx, number, clients[number % 3], comesBack));
    }
    await hear(nodes, sockets, 1);
    await nodes[1].kill();
    await haveCome(nodes[0], sockets);
    for (const socket of sockets) {
      // One that was not at that node, or was recovered, is who it was.
      if (!socket.recovered) await emitAck(socket, 'authenticate', { user_id: 'user_again', organization_id: 'acme' });
    }
    await hear([nodes[0]], sockets, 2);
  });

  test(`clients of a node that drains come back at the other one, a few at a time (${example})`, async (t) => {
    const nodes = await startNodes(t, 2, { passOn, server: { drain_ms: 1500 } });
    const nginx = await startNginx(t, example, nodes);
    const sockets = [];
    for (let number = 1; number <= 20; number += 1) {
      const socket = await visitor(nodes, nginx, number, clients[number % 3], comesBack);
      await subscribe(socket, { channels: ['kpi'] });
      sockets.push(socket);
    }
    // Published all the while, by the node that stays.
    let [n, over] = [0, false];
    const publishing = (async () => {
      for (; !over; n += 1) {
        const { status } = await nodes[0].publish('/broadcast', { event: 'kpi:update', data: { ...kpi('acme'), n } });
        assert.equal(status, 200);
      }
    })();
    const begun = Date.now();
    await nodes[1].terminate('SIGTERM');
    assert.ok(Date.now() - begun >= 1400, 'in steps, and not at once');
    await haveCome(nodes[0], sockets);
    over = true;
    await publishing;
    for (const socket of sockets) {
      await socket.inbox.next('kpi:update', (payload) => payload.n === n - 1);
      const heard = socket.inbox.all('kpi:update').map((payload) => payload.n);
      assert.deepEqual(heard, Array.from({ length: n }, (_, index) => index), 'nothing is missing, or twice');
    }
  });
}
