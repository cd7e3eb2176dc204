// From reports to figures: medians, ranges, and what is reached.

/** The reports of a row and a server, one for each round that got there. */
export function reportsOf(results, row, server) {
  return results.filter((result) => result.row === row && result.server === server);
}

/** Median and range of a measure; undefined if there is no report. */
export function figure(results, row, server, measure) {
  const values = reportsOf(results, row.id, server).map((result) => measure.read(result.report));
  return summary(values.filter((value) => value !== undefined));
}

function summary(values) {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  return { median: median(sorted), least: sorted[0], most: sorted.at(-1), count: sorted.length };
}

function median(sorted) {
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Deliveries of a row that a server owes, over all rounds. */
export function missing(results, row, server) {
  const deliveries = reportsOf(results, row.id, server).map((result) => result.report.delivery);
  return deliveries.reduce((sum, delivery) => sum + (delivery ? Math.max(0, delivery.expected - delivery.received) : 0), 0);
}

/**
 * Whether ours reaches a goal: {text, value, reached}.
 *
 * A ratio is taken in each round, between neighbours in time; its median counts.
 */
export function judge(results, rows, row, measure) {
  const { reach } = measure;
  if (!reach) return undefined;
  if (reach.kind === "bound") {
    const ours = figure(results, row, "tiercast", measure);
    const value = ours?.median;
    return { text: `${sign(reach)} ${round(reach.value, 2)}`, value, reached: meets(value, reach.value, reach) };
  }
  const value = summary(ratiosOf(results, rows, row, measure))?.median;
  const text = `${sign(reach)} ${round(reach.factor, 2)} x ${nameOf(reach.of, rows)}`;
  return { text, value, ratio: true, reached: meets(value, reach.factor, reach) };
}

function sign({ better }) {
  return better === "less" ? "<=" : ">=";
}

function meets(value, goal, { better }) {
  return better === "less" ? value <= goal : value >= goal;
}

function ratiosOf(results, rows, row, measure) {
  const { of } = measure.reach;
  const otherRow = of.row ? rows.find((candidate) => candidate.id === of.row) : row;
  const otherServer = of.server ?? "tiercast";
  const ratios = reportsOf(results, row.id, "tiercast").map(({ round, report }) => {
    const other = reportsOf(results, otherRow.id, otherServer).find((result) => result.round === round);
    return other && measure.read(report) / measure.read(other.report);
  });
  return ratios.filter(Number.isFinite);
}

function nameOf(of, rows) {
  if (of.server) return of.server === "node" ? "Node" : of.server;
  return `ours in "${rows.find((row) => row.id === of.row).title}"`;
}

/** A number with so many digits after the point. */
export function round(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: digits });
}
