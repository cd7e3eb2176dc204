// docs/benchmarks.md.

import { cpus, release, totalmem } from "node:os";
import { figure, judge, missing, reportsOf, round } from "./figures.mjs";
import { PLOTS } from "./plot.mjs";
import { FAULTS, ROWS, SERVERS } from "./rows.mjs";

const NAMES = {
  tiercast: "Tiercast",
  cluster: "two nodes over Redis",
  floor: "floor",
  socketioxide: "socketioxide alone",
  node: "Node socket.io",
};

/** The page, from all results and what is known of the run. */
export function page(results, run) {
  return [
    "# Benchmarks",
    "",
    "Made by `make bench`; do not edit. Every server did the same work in the same run, one after another and",
    "interleaved, on one machine that it shared with the load tool (`tiercast bench`), over loopback.",
    "",
    `- ${cpus().length} cores (${cpus()[0].model.trim()}), ${round(totalmem() / 2 ** 30, 0)} GiB, Linux ${release()}`,
    `- Node ${process.versions.node}, socket.io ${run.versions.node}, socketioxide ${run.versions.socketioxide}`,
    `- ${run.rounds} round${run.rounds === 1 ? "" : "s"}, ${run.date}, ${round(run.minutes, 1)} minutes`,
    "- **floor**: a program that writes one pre-built frame to each socket with one write each and does nothing else",
    "- CPU: user and system time of the server's process; memory: its resident set; median of the rounds, and the range",
    "- \"cores that others used\": processes other than the two; where it is not near 0, the times of that row say little",
    "- a ratio is taken within each round; its median is what counts",
    "",
    ...PLOTS.map((plot) => `![${plot.title}](benchmarks/${plot.id}.svg)`),
    "",
    ...mainTable(results, run),
    "",
    ...underFaults(results, run),
    "## What got lost, and what measuring cost",
    "",
    ...faultTable(results, run),
    "",
    ...(run.skipped.length > 0 ? ["Not measured:", "", ...run.skipped.map((what) => `- ${what}`), ""] : []),
  ].join("\n");
}

function mainTable(results, run) {
  const servers = SERVERS.filter((server) => run.servers.includes(server));
  const lines = ROWS.filter((row) => run.rows.includes(row.id)).flatMap((row) =>
    row.measures.map((measure) => {
      const cells = servers.map((server) => cell(figure(results, row, server, measure), measure.digits));
      const judged = judge(results, ROWS, row, measure);
      const owed = missing(results, row, "tiercast");
      return `| ${row.title}: ${measure.name} | ${cells.join(" | ")} | ${verdict(judged, measure, owed)} |`;
    }),
  );
  return [
    `| measure | ${servers.map((server) => NAMES[server]).join(" | ")} | to reach | Tiercast |  |`,
    `|---|${servers.map(() => "---:|").join("")}---|---:|---|`,
    ...lines,
  ];
}

function cell(figure, digits) {
  if (!figure) return "-";
  const { median, least, most, count } = figure;
  const range = count > 1 && round(least, digits) !== round(most, digits);
  return range ? `**${round(median, digits)}** (${round(least, digits)} to ${round(most, digits)})` : `**${round(median, digits)}**`;
}

// A figure of a server that owes deliveries is no figure.
function verdict(judged, measure, owed) {
  if (!judged) return "- | - | ";
  if (judged.value === undefined) return `${judged.text} | - | `;
  const value = judged.ratio ? `${round(judged.value, judged.value < 0.1 ? 4 : 2)} x` : round(judged.value, measure.digits);
  return `${judged.text} | ${value} | ${owed > 0 ? "**deliveries missing**" : judged.reached ? "reached" : "**not reached**"}`;
}

function underFaults(results, run) {
  const rows = FAULTS.filter((row) => run.rows.includes(row.id) && reportsOf(results, row.id, "tiercast").length > 0);
  if (rows.length === 0) return [];
  const lines = rows.flatMap((row) =>
    row.measures.map((measure) => {
      const judged = judge(results, ROWS, row, measure);
      const reached = judged ? `${judged.text} | ${judged.reached ? "reached" : "**not reached**"}` : "- | ";
      return `| ${row.title}: ${measure.name} | ${cell(figure(results, row, "tiercast", measure), measure.digits)} | ${reached} |`;
    }),
  );
  return [
    "## Delivery under faults",
    "",
    "Clients come back as stock ones do, with what `socket.io-client` 4.8 remembers; each tells which events it has got.",
    "One run each, of Tiercast alone: `tiercast bench jitter` and `tiercast bench restart`.",
    "In the flood (`tiercast bench flood`) the attackers share the machine with the server and with the honest clients:",
    "the ratio compares two phases of one run, and contains what the attackers themselves take of the cores.",
    "Those of them that do not read are sent 4 KB as often as honest clients are sent theirs.",
    "",
    "| measure | Tiercast | to reach |  |",
    "|---|---:|---|---|",
    ...lines,
    "",
  ];
}

function faultTable(results, run) {
  const lines = ROWS.filter((row) => run.rows.includes(row.id)).flatMap((row) =>
    run.servers.map((server) => faults(row, server, reportsOf(results, row.id, server))),
  );
  return [
    "| load | server | missing deliveries | clients with losses | disconnected | tool's CPU us per delivery | cores that others used |",
    "|---|---|---:|---:|---:|---:|---:|",
    ...lines.filter(Boolean),
  ];
}

function faults(row, server, results) {
  const reports = results.map((result) => result.report).filter((report) => report.delivery);
  if (reports.length === 0) return undefined;
  const sum = (read) => round(reports.reduce((total, report) => total + read(report.delivery), 0), 0);
  const mean = (read) => round(reports.reduce((total, report) => total + read(report), 0) / reports.length, 2);
  const costs = `${mean((report) => report.tool_cpu_us_per_delivery)} | ${mean((report) => report.other_cores)}`;
  const ended = sum((delivery) => delivery.clients_ended);
  return `| ${row.title} | ${NAMES[server]} | ${round(missing(results, row, server), 0)} | ${sum((delivery) => delivery.clients_with_losses)} | ${ended} | ${costs} |`;
}
