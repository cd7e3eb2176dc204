// The whole benchmark: rounds over rows over servers, until done or out of time.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { endure, measure } from "./load.mjs";
import { page } from "./page.mjs";
import { PLOTS, plot } from "./plot.mjs";
import { FAULTS, ROWS, SERVERS, serversOf } from "./rows.mjs";
import { takesPart } from "./servers.mjs";

const IDS = [...ROWS, ...FAULTS].map((row) => row.id);
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    rows: { type: "string", default: IDS.join(",") },
    minutes: { type: "string", default: "14" },
    out: { type: "string", default: "docs" },
  },
});

const began = Number(process.env.BENCH_STARTED ?? Date.now() / 1000) * 1000;
const deadline = began + Number(options.minutes) * 60_000;
const rounds = Number(options.rounds);
const wanted = options.rows.split(",");
const unknown = wanted.filter((id) => !IDS.includes(id));
if (unknown.length > 0) fail(`unknown rows ${unknown.join(", ")}; there are ${IDS.join(", ")}`);

const results = [];
const skipped = [];

for (let round = 1; round <= rounds; round++) {
  for (const row of ROWS.filter((row) => wanted.includes(row.id) && round <= (row.rounds ?? rounds))) {
    for (const server of rotated(serversOf(row).filter(takesPart), round)) {
      await attempt(round, row, server, measure);
    }
  }
}
for (const row of FAULTS.filter((row) => wanted.includes(row.id) && takesPart("tiercast"))) {
  await attempt(1, row, "tiercast", endure);
}
if (results.length === 0) fail("nothing could be measured");
await write();

async function attempt(round, row, server, run) {
  const what = `round ${round}: ${row.title}: ${server}`;
  if (Date.now() > deadline) {
    skipped.push(`${what} (out of time)`);
    return;
  }
  try {
    const report = await run(row, server);
    results.push({ round, row: row.id, server, report });
    say(`${what}: ${row.measures.map((m) => `${m.name} ${m.read(report)?.toFixed(m.digits) ?? "-"}`).join(", ")}`);
  } catch (error) {
    const why = (error.stderr || error.message).trim().split("\n")[0];
    skipped.push(`${what} (${why})`);
    say(`${what}: ${why}`);
  }
}

// No server always comes first, when the machine may be in another state.
function rotated(servers, round) {
  const start = (round - 1) % Math.max(servers.length, 1);
  return [...servers.slice(start), ...servers.slice(0, start)];
}

async function write() {
  const folder = join(options.out, "benchmarks");
  await mkdir(folder, { recursive: true });
  const run = {
    rounds,
    rows: wanted,
    servers: SERVERS.filter(takesPart),
    skipped,
    date: new Date().toISOString().slice(0, 10),
    minutes: (Date.now() - began) / 60_000,
    versions: await versions(),
  };
  await writeFile(join(folder, "results.json"), `${JSON.stringify({ run, results }, null, 1)}\n`);
  await writeFile(join(options.out, "benchmarks.md"), page(results, run));
  for (const one of PLOTS) {
    const svg = plot(one, results);
    if (svg) await writeFile(join(folder, `${one.id}.svg`), svg);
  }
  say(`written to ${join(options.out, "benchmarks.md")}`);
}

async function versions() {
  const node = JSON.parse(await readFile("bench/peers/node/package-lock.json")).packages["node_modules/socket.io"].version;
  const lock = await readFile("Cargo.lock", "utf8");
  const socketioxide = /name = "socketioxide"\nversion = "([^"]+)"/.exec(lock)?.[1] ?? "?";
  return { node, socketioxide };
}

function say(line) {
  process.stderr.write(`${line}\n`);
}

function fail(message) {
  say(`bench: ${message}`);
  process.exit(1);
}
