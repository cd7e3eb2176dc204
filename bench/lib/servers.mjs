// Starting and stopping the servers, each as a process of its own on a free port.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
const release = join(process.env.CARGO_TARGET_DIR ?? "target", "release");

/** The load tool. */
export const TIERCAST = join(release, "tiercast");
/** This server: the load tool's own build unless another is named. */
export const OURS = process.env.TIERCAST_BIN || TIERCAST;

/** Whether a server takes part in this run. */
export function takesPart(server) {
  return !["tiercast", "cluster"].includes(server) || OURS !== "none";
}

/** Starts a server and resolves once it accepts connections. */
export async function start(server, { deflate = false } = {}) {
  if (server === "cluster") return startCluster();
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "tiercast-bench-"));
  return run(server, port, folder, await commandOf(server, port, folder, deflate));
}

// Two nodes over a Redis that keeps what it is told on the disk, as one is run that nothing may be lost of.
async function startCluster() {
  const redisPort = await freePort();
  const folder = await mkdtemp(join(tmpdir(), "tiercast-bench-"));
  const settings = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--dir", folder];
  const redis = await run("redis", redisPort, folder, ["redis-server", "--port", redisPort, "--bind", "127.0.0.1", ...settings]);
  const started = [redis];
  const stop = async () => {
    for (const one of started.reverse()) await one.stop();
  };
  try {
    for (const node of ["one", "two"]) {
      const port = await freePort();
      const folder = await mkdtemp(join(tmpdir(), "tiercast-bench-"));
      const config = join(folder, "config.toml");
      const cluster = `[log]\nstore = "redis"\n\n[cluster]\nredis_urls = ["redis://127.0.0.1:${redisPort}/"]\nnode_id = "${node}"\n`;
      await writeFile(config, `${configOf(port)}\n${cluster}`);
      started.push(await run("cluster", port, folder, [OURS, "serve", "--config", config]));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const nodes = started.slice(1);
  return { url: nodes.map((node) => node.url).join(","), pid: nodes.map((node) => node.pid).join(","), stop };
}

async function run(server, port, folder, [command, ...args]) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let complaints = "";
  child.stderr.on("data", (data) => (complaints = (complaints + data).slice(-2000)));
  const failed = new Promise((_, reject) => child.once("error", reject));
  const stop = () => stopped(child, folder);
  try {
    await Promise.race([accepting(port, child), failed]);
  } catch (error) {
    await stop();
    throw new Error(`${server} did not start: ${error.message}\n${complaints}`);
  }
  return { url: `http://127.0.0.1:${port}/ws/`, pid: child.pid, stop };
}

async function commandOf(server, port, folder, deflate) {
  switch (server) {
    case "tiercast": {
      const config = join(folder, "config.toml");
      await writeFile(config, configOf(port));
      return [OURS, "serve", "--config", config];
    }
    case "node":
      return [process.execPath, "bench/peers/node/server.js", port, ...(deflate ? ["--deflate"] : [])];
    default:
      return [join(release, "examples", `peer_${server}`), port];
  }
}

// Limits that the load does not meet, and no line for each connection: the others have neither. Nothing is merged or
// dropped for a slow reader either, so that every server delivers every event; one that stops reading is cut soon.
function configOf(port) {
  return `[server]
host = "127.0.0.1"
port = ${port}

[limits]
max_connections_total = 100000
max_connections_per_org = 100000
room_max_size = 100000
rate_limit_messages_per_second = 100000

[outbox]
soft_limit_bytes = 8388608
hard_limit_bytes = 8388608
write_stall_timeout_ms = 1000

[logging]
level = "warn"
log_connection_events = false
log_subscription_events = false
audit = false
`;
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function accepting(port, child) {
  const until = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`exit code ${child.exitCode}`);
    if (await answers(port)) return;
    await sleep(50);
  }
  throw new Error("it does not listen");
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

async function stopped(child, folder) {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(late);
  }
  await rm(folder, { recursive: true, force: true });
}
