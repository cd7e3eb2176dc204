// What is measured, and what is to be reached.
//
// `load` are the load tool's flags; `events` may name another number for a
// server, since the figures are per delivery and a slow server needs fewer for
// the same precision. A measure reads one figure out of a report; its `reach`
// compares ours with another server's figure of the same round, or with a bound.

export const SERVERS = ["tiercast", "cluster", "floor", "socketioxide", "node"];
const ALONE = SERVERS.filter((server) => server !== "cluster");

const cpu = (report) => report.server?.cpu_us_per_delivery;
const perSecond = (report) => report.delivery?.per_second;
const p99 = (report) => report.delivery?.latency_ms.p99;
const bytes = (report) => report.delivery?.bytes_each;
const idleMemory = (report) => report.server?.rss_kb_per_connection;
const connectCpu = (report) => report.server?.connect_cpu_ms_each;
const peakMemory = (report) => report.server && report.server.rss_peak_kb / 1024;
const stalledCut = (report) => report.delivery?.stalled_cut;
const unanswered = (report) => report.connect.unanswered;

const atMost = (factor, of) => ({ kind: "ratio", factor, of, better: "less" });
const atLeast = (factor, of) => ({ kind: "ratio", factor, of, better: "more" });
const bound = (value, better = "less") => ({ kind: "bound", value, better });

export const ROWS = [
  {
    id: "small",
    title: "1,000 clients, 260 B events, back to back",
    load: { clients: 1000, size: 260 },
    events: { default: 600, node: 300 },
    measures: [
      { name: "CPU us per delivery", read: cpu, digits: 2, reach: atMost(0.9, { server: "floor" }), plot: "cpu" },
      { name: "deliveries/s", read: perSecond, digits: 0, reach: atLeast(5, { server: "node" }) },
    ],
  },
  {
    id: "large",
    title: "500 clients, 4 KB events, no compression",
    load: { clients: 500, size: 4096 },
    events: { default: 600, node: 200 },
    measures: [{ name: "CPU us per delivery", read: cpu, digits: 2, reach: atMost(0.75, { server: "floor" }), plot: "cpu" }],
  },
  {
    id: "deflate",
    title: "500 clients, 4 KB events, permessage-deflate",
    servers: ["tiercast", "node"],
    deflate: true,
    load: { clients: 500, size: 4096 },
    events: { default: 600, node: 30 },
    measures: [
      { name: "CPU us per delivery", read: cpu, digits: 2, reach: atMost(1.2, { row: "large" }), plot: "cpu" },
      { name: "CPU us per delivery, against Node", read: cpu, digits: 2, reach: atMost(1 / 50, { server: "node" }) },
      { name: "bytes per delivery", read: bytes, digits: 0, reach: bound(1250) },
    ],
  },
  {
    id: "rate20",
    title: "1,000 clients, 20 events/s",
    load: { clients: 1000, rate: 20, threads: 2 },
    events: { default: 160 },
    measures: [{ name: "p99 ms, publish to receive", read: p99, digits: 1, reach: atMost(1.1, { server: "floor" }), plot: "p99" }],
  },
  {
    id: "rate200",
    title: "100 clients, 200 events/s",
    load: { clients: 100, rate: 200, threads: 2 },
    events: { default: 1600 },
    measures: [{ name: "p99 ms, publish to receive", read: p99, digits: 2, reach: atMost(1.1, { server: "floor" }), plot: "p99" }],
  },
  {
    id: "both",
    title: "1,000 clients, 260 B events, both forms",
    servers: ["tiercast"],
    load: { clients: 1000, size: 260, form: "both" },
    events: { default: 600 },
    measures: [{ name: "CPU us per delivery (of a pair)", read: cpu, digits: 2, reach: atMost(1.4, { row: "small" }) }],
  },
  {
    // What plain clients are compared with: their one form is the envelope too.
    id: "envelope",
    title: "1,000 clients, 260 B events, envelope form",
    servers: ["tiercast"],
    load: { clients: 1000, size: 260, form: "envelope" },
    events: { default: 600 },
    measures: [{ name: "CPU us per delivery", read: cpu, digits: 2 }],
  },
  {
    id: "plain",
    title: "1,000 plain clients, 260 B events",
    servers: ["tiercast"],
    load: { client: "plain", clients: 1000, size: 260 },
    events: { default: 600 },
    measures: [{ name: "CPU us per delivery", read: cpu, digits: 2, reach: atMost(1.2, { row: "envelope" }) }],
  },
  {
    id: "burst",
    title: "500 clients, 260 B events, 4 publishers",
    load: { clients: 500, size: 260, publishers: 4 },
    events: { default: 2000, node: 500 },
    measures: [
      { name: "CPU us per delivery", read: cpu, digits: 2, reach: atMost(0.35, { server: "floor" }), plot: "cpu" },
      { name: "deliveries/s", read: perSecond, digits: 0 },
    ],
  },
  {
    id: "idle",
    title: "5,000 idle connections",
    load: { clients: 5000, idle: 3, "connect-rate": 2000 },
    measures: [
      { name: "kB of memory each", read: idleMemory, digits: 1, reach: bound(17), plot: "rss" },
      { name: "connecting: CPU ms each", read: connectCpu, digits: 3, reach: bound(0.16) },
      { name: "clients whose first events got lost", read: unanswered, digits: 0, reach: bound(0) },
    ],
  },
  {
    id: "idle-plain",
    title: "5,000 idle plain connections",
    servers: ["tiercast"],
    load: { client: "plain", clients: 5000, idle: 3, "connect-rate": 2000 },
    measures: [
      { name: "kB of memory each", read: idleMemory, digits: 1, reach: atMost(1.1, { row: "idle" }), plot: "rss" },
      { name: "connecting: CPU ms each", read: connectCpu, digits: 3 },
    ],
  },
  {
    id: "idle-deflate",
    title: "2,000 idle connections, permessage-deflate",
    servers: ["tiercast", "node"],
    deflate: true,
    load: { clients: 2000, idle: 3, "connect-rate": 1000 },
    measures: [{ name: "kB of memory each", read: idleMemory, digits: 1, reach: bound(17), plot: "rss" }],
  },
  {
    id: "crowd",
    title: "10,000 idle connections, then a broadcast to all",
    servers: ["tiercast", "floor"],
    rounds: 1,
    load: { clients: 10000, idle: 3, size: 260, warmup: 2, "connect-rate": 2000 },
    events: { default: 20 },
    measures: [
      { name: "kB of memory each", read: idleMemory, digits: 1 },
      { name: "CPU us per delivery", read: cpu, digits: 2 },
      { name: "p99 ms, back to back", read: p99, digits: 0 },
    ],
  },
  {
    id: "full",
    title: "1,000 clients, 4 KB events, back to back",
    servers: ["tiercast"],
    rounds: 1,
    load: { clients: 1000, size: 4096 },
    events: { default: 2500 },
    measures: [
      { name: "p99 ms, publish to receive", read: p99, digits: 1 },
      { name: "most memory, MB", read: peakMemory, digits: 1 },
    ],
  },
  {
    id: "stalled",
    title: "the same with 100 clients that stop reading",
    servers: ["tiercast"],
    rounds: 1,
    // Long enough for those that stop reading to be cut while the others still receive.
    load: { clients: 1000, size: 4096, stalled: 100 },
    events: { default: 2500 },
    measures: [
      { name: "p99 ms of the others", read: p99, digits: 1, reach: atMost(1.2, { row: "full" }) },
      { name: "most memory, MB", read: peakMemory, digits: 1 },
      { name: "stalled clients that were cut", read: stalledCut, digits: 0, reach: bound(100, "more") },
    ],
  },
  {
    id: "nodes",
    title: "1,000 clients on all nodes, 260 B events, 8 publishers",
    servers: ["tiercast", "cluster"],
    rounds: 1,
    load: { clients: 1000, size: 260, publishers: 8 },
    events: { default: 1000 },
    measures: [
      { name: "CPU us per delivery", read: cpu, digits: 2 },
      { name: "deliveries/s", read: perSecond, digits: 0 },
    ],
  },
  {
    id: "nodes-rate",
    title: "100 clients on all nodes, 200 events/s",
    servers: ["tiercast", "cluster"],
    rounds: 1,
    load: { clients: 100, rate: 200, publishers: 2, threads: 2 },
    events: { default: 1600 },
    measures: [
      { name: "p50 ms, publish to receive", read: (report) => report.delivery?.latency_ms.p50, digits: 2 },
      { name: "p99 ms, publish to receive", read: p99, digits: 2 },
      { name: "p50 ms until a publisher is answered", read: (report) => report.publish?.answer_ms.p50, digits: 2 },
    ],
  },
  {
    id: "shard",
    title: "1 client, 1 KB events of one organization, 256 publishers",
    servers: ["tiercast", "cluster"],
    rounds: 1,
    load: { clients: 1, size: 1024, publishers: 256 },
    events: { default: 20000 },
    measures: [{ name: "events/s of one shard", read: (report) => report.publish?.per_second, digits: 0 }],
  },
];

const deliveredOnce = ({ delivery }) => (100 * delivery.received) / delivery.expected;
const again = ({ delivery }) => delivery.twice + delivery.out_of_order;
const recovered = ({ connections }) => (100 * connections.recovered) / connections.reconnects;
const clientsBack = ({ back, load }) => (100 * back.clients) / load.clients;

const slower = ({ calm, flood }) => flood.latency_ms.p99 / calm.latency_ms.p99;
const lostInFlood = ({ flood }) => flood.expected - flood.received;
const acts = ({ hostile, load }) => Object.values(hostile).reduce((sum, kind) => sum + kind.acts, 0) / load.seconds;

const DELIVERED = [
  { name: "delivered, %", read: deliveredOnce, digits: 3, reach: bound(100, "more") },
  { name: "delivered twice or out of order", read: again, digits: 0, reach: bound(0) },
];

/** What our server is put through. A row names a mode of the load tool, which tells by itself what got lost. */
export const FAULTS = [
  {
    id: "jitter",
    title: "1,000 clients, 2 events/s, each cut every 15 s for 2 s",
    mode: "jitter",
    load: { clients: 1000, rate: 2, threads: 2 },
    events: { default: 120 },
    measures: [
      ...DELIVERED,
      { name: "reconnects that recovered, %", read: recovered, digits: 2 },
      { name: "p99 ms from the CONNECT reply to the last missed event", read: (report) => report.replay_ms.p99, digits: 1, reach: bound(1000) },
      { name: "p99 ms, publish to receive, of live events", read: (report) => report.latency_ms.p99, digits: 1 },
    ],
  },
  {
    id: "restart",
    title: "2,000 clients, 20 events/s, the server restarted",
    mode: "restart",
    load: { clients: 2000, rate: 20, threads: 2 },
    measures: [
      ...DELIVERED,
      { name: "clients that came back, %", read: clientsBack, digits: 2, reach: bound(100, "more") },
      { name: "reconnects that recovered, %", read: recovered, digits: 2 },
      { name: "ms that nobody listened", read: ({ restart }) => restart.closed_ms, digits: 0 },
      { name: "ms until half were back", read: ({ back }) => back.half_ms, digits: 0 },
      { name: "ms until 99 % were back", read: ({ back }) => back.p99_ms, digits: 0 },
      { name: "ms until all were back", read: ({ back }) => back.all_ms, digits: 0 },
    ],
  },
  {
    id: "flood",
    title: "500 clients, 20 events/s, 2,000 hostile ones",
    mode: "flood",
    load: { clients: 500, rate: 20, hostile: 2000 },
    measures: [
      { name: "p99 ms, publish to receive, in the calm", read: ({ calm }) => calm.latency_ms.p99, digits: 1 },
      { name: "p99 ms, publish to receive, in the flood", read: ({ flood }) => flood.latency_ms.p99, digits: 1 },
      { name: "the one by the other", read: slower, digits: 2, reach: bound(1.5) },
      { name: "deliveries lost in the flood", read: lostInFlood, digits: 0, reach: bound(0) },
      { name: "hostile acts/s", read: acts, digits: 0 },
      { name: "most memory, MB", read: ({ memory }) => memory.peak_kb / 1024, digits: 0, reach: bound(512) },
      { name: "seconds until everything was back at the start level", read: ({ back_ms }) => (back_ms === null ? undefined : back_ms / 1000), digits: 1, reach: bound(60) },
    ],
  },
];

/** The load tool's flags for a row and a server. */
export function flags(row, server) {
  const load = { ...row.load };
  const events = row.events?.[server] ?? row.events?.default;
  if (events !== undefined) load.events = events;
  const flags = Object.entries(load).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return row.deflate ? [...flags, "--deflate"] : flags;
}

/** The servers that a row is about. */
export function serversOf(row) {
  return row.servers ?? ALONE;
}
