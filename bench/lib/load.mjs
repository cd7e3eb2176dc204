// One run of the load tool.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { flags } from "./rows.mjs";
import { OURS, TIERCAST, start } from "./servers.mjs";

const TIMEOUT_MS = 60_000;
// A minute of events, and what clients may take to connect and to get what they miss.
const FAULTS_TIMEOUT_MS = 180_000;
// Modes in which the tool starts the server itself: to restart it, and to let attackers at it.
const STARTS_ITS_OWN = ["restart", "flood"];
const run = promisify(execFile);

/** Starts a server, measures one row with it, and stops it. */
export async function measure(row, server) {
  const running = await start(server, { deflate: row.deflate });
  try {
    const args = ["--url", running.url, "--pid", running.pid, ...flags(row, server)];
    return await bench(args, TIMEOUT_MS);
  } finally {
    await running.stop();
  }
}

/** Puts our server through one row of faults; what got lost is in the report. */
export async function endure(row) {
  const running = STARTS_ITS_OWN.includes(row.mode) ? undefined : await start("tiercast");
  try {
    const target = running ? ["--url", running.url] : ["--server", OURS];
    return await bench([row.mode, ...target, ...flags(row, "tiercast")], FAULTS_TIMEOUT_MS, { mayFail: true });
  } finally {
    await running?.stop();
  }
}

// A run that found a loss fails, and has written its report.
async function bench(args, timeout, { mayFail = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "tiercast-bench-"));
  const json = join(folder, "report.json");
  try {
    const failed = await run(TIERCAST, ["bench", ...args, "--json", json], { timeout }).then(() => undefined, (error) => error);
    const report = await readFile(json).then(JSON.parse, () => undefined);
    if (failed && !(mayFail && report)) throw failed;
    return report;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
