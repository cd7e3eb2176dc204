// A Redis, nodes of one cluster, and nginx in front of them with the files of `examples/cluster`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { request, startServer, until } from './harness.js';
import { freePort } from './plain.js';

const EXAMPLES = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../examples/cluster/nginx');

/** Starts a `redis-server` that keeps nothing on the disk, and ends it with the test, after its nodes. */
export async function startRedis(t, nodes) {
  const port = await freePort();
  const only = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  run(t, 'redis-server', only.map(String), () => Promise.allSettled(nodes.map((node) => node.stop())));
  await until(() => accepts(port), () => 'redis-server to listen');
  return `redis://127.0.0.1:${port}`;
}

/** Starts so many nodes on one Redis; with `passOn` each tells the others how it is reached. */
export async function startNodes(t, count, { passOn = false, server = {}, ...config } = {}) {
  const nodes = [];
  const redis = await startRedis(t, nodes);
  const start = async (number) => {
    const cluster = { redis_urls: [redis], node_id: `node-${number}`, heartbeat_ms: 100, node_timeout_ms: 2000 };
    if (passOn) cluster.node_url = `http://127.0.0.1:${await freePort()}`;
    return startServer(t, {
      config: {
        // Clients and callers are taken at their word, though a proxy is between.
        auth: { allow_trusted: true },
        api: { allow_keyless: true },
        log: { store: 'redis' },
        ...config,
        cluster,
        server: { trusted_proxies: ['127.0.0.1'], ...server },
      },
    });
  };
  nodes.push(...(await Promise.all(Array.from({ length: count }, (_, number) => start(number)))));
  const knows = async (node) => (await node.get('/nodes')).body.total_count === count;
  await until(async () => (await Promise.all(nodes.map(knows))).every(Boolean), () => 'the nodes to know each other');
  return nodes;
}

/** Starts nginx with a file of the examples, in which only the addresses are others. */
export async function startNginx(t, example, nodes) {
  const [folder, port] = [await mkdtemp(path.join(tmpdir(), 'tiercast-nginx-')), await freePort()];
  t.after(() => rm(folder, { recursive: true, force: true }));
  let site = await readFile(path.join(EXAMPLES, example), 'utf8');
  const replace = (from, to) => {
    assert.ok(site.includes(from), `${example} has no ${from}`);
    site = site.replaceAll(from, to);
  };
  replace('listen 80;', `listen 127.0.0.1:${port};`);
  nodes.forEach((node, number) => replace(`server 10.0.0.${5 + number}:5000`, `server 127.0.0.1:${node.port}`));
  await writeFile(path.join(folder, 'site.conf'), site);
  await cp(path.join(EXAMPLES, 'tiercast-proxy.conf'), path.join(folder, 'tiercast-proxy.conf'));
  const kept = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  await writeFile(
    path.join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/pid; error_log stderr warn; worker_processes 2;
     events { worker_connections 1024; }
     http {
       log_format upstreams '$remote_addr $status $request_method $arg_transport $http_upgrade=$upstream_addr';
       access_log ${folder}/access.log upstreams;
       ${kept.map((what) => `${what}_temp_path ${folder}/${what};`).join('\n')}
       include site.conf;
     }`,
  );
  run(t, 'nginx', ['-p', folder, '-e', 'stderr', '-c', path.join(folder, 'nginx.conf')]);
  const url = `http://127.0.0.1:${port}`;
  await until(() => accepts(port), () => 'nginx to listen');
  assert.equal((await request(`${url}/livez`)).status, 200);
  /** What went where: `{address, status, method, transport, nodes}` of each request of the Socket.IO door that is over. */
  const passed = async () => {
    const lines = (await readFile(path.join(folder, 'access.log'), 'utf8')).split('\n');
    const found = lines.map((line) => /^(\S+) (\d+) (\S+) (polling|websocket) .*=(.*)$/.exec(line)).filter(Boolean);
    return found.map(([, address, status, method, transport, upstreams]) => {
      const ports = upstreams.split(', ').map((upstream) => Number(upstream.split(':')[1]));
      const numbers = ports.map((port) => nodes.findIndex((node) => node.port === port));
      return { address, status: Number(status), method, transport, nodes: numbers };
    });
  };
  return { url, passed };
}

/** A process that ends with its test, after what is to end before it. */
function run(t, command, args, before = () => {}) {
  // Debian keeps nginx where only root looks for commands.
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const child = spawn(command, args, { env, stdio: 'ignore' });
  const ended = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', () => resolve());
  });
  t.after(async () => {
    await before();
    child.kill('SIGTERM');
    assert.equal(await ended, undefined, `${command} runs`);
  });
}

async function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
