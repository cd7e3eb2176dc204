// The plots: horizontal bars, one panel for each load, each panel on a scale of its own.

import { figure, round } from "./figures.mjs";
import { ROWS, serversOf } from "./rows.mjs";

/** The plots of a page; a measure names the one that it is in. */
export const PLOTS = [
  { id: "cpu", title: "Server CPU for each delivery, in microseconds" },
  { id: "p99", title: "99th percentile from publishing to receiving, in milliseconds" },
  { id: "rss", title: "Memory of an idle connection, in kB" },
];

const WIDTH = 760;
const LEFT = 130;
const RIGHT = 90;
const BAR = 18;
const GAP = 6;
const LABELS = { tiercast: "Tiercast", floor: "floor", socketioxide: "socketioxide", node: "Node socket.io" };
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 15px; }
  .panel { font-weight: 600; }
  .bar { fill: #afb8c1; }
  .tiercast { fill: #0969da; }
  .range { stroke: #57606a; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .bar { fill: #57606a; }
    .tiercast { fill: #4493f8; }
    .range { stroke: #afb8c1; }
  }`;

/** One plot as SVG; undefined if nothing was measured for it. */
export function plot({ id, title }, results) {
  const panels = ROWS.flatMap((row) => row.measures.filter((measure) => measure.plot === id).map((measure) => barsOf(results, row, measure)));
  const drawn = panels.filter((panel) => panel.bars.length > 0);
  if (drawn.length === 0) return undefined;
  let y = 34;
  const body = drawn.map((panel) => {
    const lines = panelLines(panel, y);
    y += heightOf(panel);
    return lines;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<text class="title" x="8" y="22">${escaped(title)}</text>`,
    ...body.flat(),
    "</svg>",
    "",
  ].join("\n");
}

function barsOf(results, row, measure) {
  const bars = serversOf(row).map((server) => ({ server, figure: figure(results, row, server, measure) }));
  return { title: row.title, digits: measure.digits, bars: bars.filter((bar) => bar.figure) };
}

function heightOf(panel) {
  return 30 + panel.bars.length * (BAR + GAP) + 8;
}

function panelLines({ title, digits, bars }, top) {
  const most = Math.max(...bars.map((bar) => bar.figure.most), Number.MIN_VALUE);
  const scale = (value) => (value / most) * (WIDTH - LEFT - RIGHT);
  const head = `<text class="panel" x="8" y="${top + 20}">${escaped(title)}</text>`;
  const lines = bars.flatMap(({ server, figure }, index) => {
    const y = top + 30 + index * (BAR + GAP);
    const middle = y + BAR / 2;
    const value = LEFT + scale(figure.most) + 8;
    return [
      `<text x="${LEFT - 8}" y="${y + 14}" text-anchor="end">${LABELS[server]}</text>`,
      `<rect class="bar ${server}" x="${LEFT}" y="${y}" width="${fixed(scale(figure.median))}" height="${BAR}" rx="2"/>`,
      `<line class="range" x1="${fixed(LEFT + scale(figure.least))}" x2="${fixed(LEFT + scale(figure.most))}" y1="${middle}" y2="${middle}"/>`,
      `<text x="${fixed(value)}" y="${y + 14}">${round(figure.median, digits)}</text>`,
    ];
  });
  return [head, ...lines];
}

function fixed(value) {
  return value.toFixed(1);
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
