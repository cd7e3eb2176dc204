// One run of the load tool.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { flags } from "./rows.mjs";
import { TIERCAST, start } from "./servers.mjs";

const TIMEOUT_MS = 60_000;
const run = promisify(execFile);

/** Starts a server, measures one row with it, and stops it. */
export async function measure(row, server) {
  const running = await start(server, { deflate: row.deflate });
  const folder = await mkdtemp(join(tmpdir(), "tiercast-bench-"));
  const json = join(folder, "report.json");
  try {
    const target = ["--url", running.url, "--pid", running.pid, "--json", json];
    await run(TIERCAST, ["bench", ...target, ...flags(row, server)], { timeout: TIMEOUT_MS });
    return JSON.parse(await readFile(json));
  } finally {
    await running.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
