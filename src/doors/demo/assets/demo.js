// The demo dashboard: a stock Socket.IO client that shows what it is sent.
// Nothing it receives is trusted: it is written as text, checked for its type, and kept in bounded lists.

// === Page ===

const $ = (id) => document.getElementById(id);

const query = new URLSearchParams(location.search);
const settings = {
  organization: query.get('organization') || document.body.dataset.organization,
  user: query.get('user') || 'demo',
  path: query.get('path') || '/ws',
};
const LIMITS = { alerts: 40, frames: 60, points: 120, scopes: 50, queues: 12, checkins: 6 };
const STALE_MS = 10_000;
const PING_MS = 5_000;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** An element with attributes and children; text children are text, never markup. */
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
const icon = (name) => svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));
const setIcon = (node, name) => node.querySelector('use').setAttribute('href', `#i-${name}`);

// Painting waits for the next frame, so that a burst of events costs one painting.
const waiting = new Set();
function paintSoon(paint) {
  if (waiting.size === 0) requestAnimationFrame(paintAll);
  waiting.add(paint);
}
function paintAll() {
  const paints = [...waiting];
  waiting.clear();
  for (const paint of paints) paint();
}

// === Values ===

const object = (value) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {});
const number = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : undefined);
const text = (value, fallback = '') =>
  (typeof value === 'string' && value !== '') || typeof value === 'number' ? String(value).slice(0, 300) : fallback;
const words = (value) => text(value).replaceAll('_', ' ');
const capital = (value) => value.charAt(0).toUpperCase() + value.slice(1);

/** What a table has for a key that came over the wire, which may be anything. */
const pick = (table, key, otherwise) => (Object.hasOwn(table, key) ? table[key] : otherwise);

/** Rates are fractions on the wire; some publishers send per cent. */
const percent = (value) => (number(value) === undefined ? undefined : Math.abs(value) <= 1.5 ? value * 100 : value);

const show = (value, digits = 0) =>
  value === undefined ? '–' : value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const count = (value, digits) => show(number(value), digits);
const signed = (value) => (value === undefined ? '–' : value > 0 ? `+${show(value)}` : value < 0 ? `−${show(-value)}` : '0');

const TIME = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
function time(value) {
  const at = new Date(typeof value === 'string' ? value : Date.now());
  return (Number.isNaN(at.getTime()) ? new Date() : at).toLocaleTimeString(undefined, TIME);
}

// === Charts ===

function sparkline(node) {
  const parts = ['area', 'target', 'line', 'dot'].map((name) => svg('path', { class: name }));
  const chart = svg('svg', { class: 'spark', viewBox: '0 0 100 40', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...parts);
  node.append(chart);
  return Object.fromEntries(parts.map((part) => [part.getAttribute('class'), part]));
}

/** Draws `points`; `span` is the least range shown, so that noise does not look like drama. */
function drawSparkline(parts, points, span, target) {
  if (points.length === 0) return;
  const low = Math.min(...points), high = Math.max(...points);
  const range = Math.max(high - low, span), middle = (low + high) / 2;
  const y = (value) => (20 - ((value - middle) / range) * 28).toFixed(2);
  const edge = 97;
  const step = edge / (Math.max(points.length, 30) - 1);
  const x = (index) => (edge - (points.length - 1 - index) * step).toFixed(2);
  const line = points.map((value, index) => `${x(index)} ${y(value)}`).join('L');
  parts.line.setAttribute('d', `M${line}`);
  parts.area.setAttribute('d', `M${line}H100V40H${x(0)}Z`);
  parts.dot.setAttribute('d', `M${edge} ${y(points.at(-1))}h0`);
  const visible = target !== undefined && y(target) > 0 && y(target) < 40;
  parts.target.setAttribute('d', visible ? `M0 ${y(target)}H100` : '');
}

function remember(points, value) {
  if (value === undefined) return;
  points.push(value);
  if (points.length > LIMITS.points) points.shift();
}

// === Freshness ===

function heard(tile, at = Date.now()) {
  tile.dataset.updated = at;
  markStale(tile);
}

function markStale(tile) {
  const age = Date.now() - Number(tile.dataset.updated);
  const stale = age >= STALE_MS;
  tile.dataset.stale = stale;
  if (!stale) return;
  const told = age < 120_000 ? `${Math.floor(age / 1000)} s` : `${Math.floor(age / 60_000)} min`;
  tile.querySelector('.fresh').replaceChildren(icon('clock'), `Stale, ${told}`);
}

// === KPIs ===

const TONE_ICON = { good: 'check', info: 'info', warn: 'warning', bad: 'critical' };
const RISK = { low: 'good', medium: 'warn', high: 'bad', critical: 'bad' };
const STAFFING = {
  critical_understaffed: 'bad', understaffed: 'warn', optimal: 'good', overstaffed: 'info', critical_overstaffed: 'warn',
};
const targetOf = (utilization) => percent(utilization.target_utilization) ?? 85;

/** Each tile: the part of the payload it reads, the number in it, and how it is told. `span` is for the chart. */
const KPIS = [
  {
    id: 'kpi-utilization', span: 12, scale: percent, target: targetOf,
    part: (kpi) => kpi.utilization, raw: (part) => part.current_utilization, format: (value) => show(value, 1),
    verdict(value, part) {
      const over = value - targetOf(part);
      if (over > 4) return over > 10 ? ['bad', 'Overloaded'] : ['warn', 'Running hot'];
      return over < -8 ? ['info', 'Room to spare'] : ['good', 'On target'];
    },
    caption: (part) => `Target ${show(targetOf(part))}%, ${count(part.active_staff_count)} active, ${count(part.staff_on_break)} on break`,
  },
  {
    id: 'kpi-sla', span: 12, scale: number,
    part: (kpi) => kpi.sla_risk, raw: (part) => part.compliance_percentage, format: (value) => show(value, 1),
    verdict(value, { risk_level: level }) {
      if (pick(RISK, level)) return [RISK[level], `${capital(level)} risk`];
      return value >= 95 ? ['good', 'Promise kept'] : value >= 85 ? ['warn', 'Slipping'] : ['bad', 'Promise missed'];
    },
    caption: (part) => `Wait ${count(part.average_wait_time_minutes, 1)} of ${count(part.sla_threshold_minutes, 1)} min, ${count(part.items_at_risk)} items at risk`,
  },
  {
    id: 'kpi-headcount', span: 10, scale: number, target: () => 0,
    part: (kpi) => kpi.headcount_gap, raw: (part) => part.headcount_gap, format: signed,
    verdict(value, { staffing_level: level }) {
      if (pick(STAFFING, level)) return [STAFFING[level], capital(words(level))];
      return value < 0 ? ['warn', 'Understaffed'] : ['good', 'Enough people'];
    },
    caption: (part) => `${count(part.current_headcount)} here, ${count(part.required_headcount)} needed, ${count(part.absent_count)} absent`,
  },
  {
    id: 'kpi-health', span: 16, scale: number,
    part: (kpi) => kpi, raw: (part) => part.health_score, format: (value) => show(value),
    verdict: (value) => (value >= 85 ? ['good', 'Healthy'] : value >= 70 ? ['warn', 'Under strain'] : ['bad', 'Needs help']),
    caption(_, points) {
      const change = Math.round(points.at(-1) - points[0]);
      return change === 0 ? 'Steady over the last minutes' : `${change > 0 ? 'Up' : 'Down'} ${Math.abs(change)} over the last minutes`;
    },
  },
];
for (const tile of KPIS) tile.spark = sparkline($(tile.id));

const scopes = new Map();

function onKpi(kpi) {
  const key = JSON.stringify([text(kpi.department_id), text(kpi.queue_name)]);
  if (!scopes.has(key)) addScope(key, kpi);
  const scope = scopes.get(key);
  if (!scope) return;
  for (const tile of KPIS) {
    const part = object(tile.part(kpi));
    const raw = number(tile.raw(part));
    // A payload may carry one KPI and not the others.
    if (raw === undefined) continue;
    Object.assign(scope[tile.id], { raw, part, at: Date.now() });
    remember(scope[tile.id].points, tile.scale(raw));
  }
  paintSoon(paintKpis);
}

function addScope(key, kpi) {
  if (scopes.size >= LIMITS.scopes) return;
  scopes.set(key, Object.fromEntries(KPIS.map((tile) => [tile.id, { points: [] }])));
  const names = [kpi.queue_name, kpi.department_id].map(words).filter(Boolean);
  if (names.length === 0) return;
  $('scope').append(el('option', { value: key }, names.join(' · ')));
  suggest('departments', kpi.department_id);
  suggest('queue-names', kpi.queue_name);
}

function suggest(list, value) {
  const known = [...$(list).options].some((option) => option.value === value);
  if (text(value) && !known) $(list).append(el('option', { value }));
}

function paintKpis() {
  // An organization that only ever publishes queues shows its first one.
  const scope = scopes.get($('scope').value || '["",""]') ?? scopes.values().next().value;
  if (!scope) return;
  for (const tile of KPIS) paintKpi(tile, scope[tile.id]);
}

function paintKpi(tile, { raw, part, at, points }) {
  if (raw === undefined) return;
  const node = $(tile.id);
  const value = points.at(-1);
  const [tone, verdict] = tile.verdict(value, part);
  node.dataset.value = raw;
  node.dataset.tone = tone;
  node.querySelector('.number').textContent = tile.format(value);
  node.querySelector('.verdict').replaceChildren(icon(TONE_ICON[tone]), verdict);
  node.querySelector('.caption').textContent = tile.caption(part, points);
  drawSparkline(tile.spark, points, tile.span, tile.target?.(part));
  heard(node, at);
}

// === Backlog ===

const TREND = { growing: ['up', 'warn', 'Growing'], decreasing: ['down', 'good', 'Shrinking'], stable: ['flat', '', 'Stable'] };
const queues = new Map();

function onBacklog(backlog) {
  const key = JSON.stringify([text(backlog.department_id), text(backlog.queue_name)]);
  if (number(backlog.total_items) === undefined || (!queues.has(key) && queues.size >= LIMITS.queues)) return;
  if (!queues.has(key)) queues.set(key, addQueue(backlog));
  const queue = queues.get(key);
  queue.backlog = backlog;
  queue.at = Date.now();
  remember(queue.points, backlog.total_items);
  paintSoon(queue.paint);
  paintSoon(paintBacklogSum);
}

function addQueue(backlog) {
  const name = text(backlog.queue_name) || text(backlog.department_id) || 'All queues';
  const items = el('b');
  const row = el('li', { class: 'queue' },
    el('h3', {}, name, el('small', {}, text(backlog.queue_name) ? words(backlog.department_id) : '')),
    el('p', { class: 'items' }, items, el('span', {}, 'items')),
    el('p', { class: 'trend' }), el('p', { class: 'fresh' }), el('p', { class: 'facts' }));
  const queue = { name, row, items, points: [], spark: sparkline(row) };
  queue.paint = () => paintQueue(queue);
  if (queues.size === 0) $('queues').replaceChildren();
  $('queues').append(row);
  return queue;
}

function paintQueue({ row, items, points, spark, backlog, at }) {
  const [arrow, tone, trend] = pick(TREND, backlog.backlog_trend, ['flat', '', words(backlog.backlog_trend) || 'No trend']);
  const over = number(backlog.items_over_sla);
  const late = el('strong', over > 0 ? { 'data-tone': 'bad' } : {}, show(over));
  row.dataset.value = backlog.total_items;
  items.textContent = show(backlog.total_items);
  row.querySelector('.trend').replaceChildren(icon(arrow), trend);
  row.querySelector('.trend').dataset.tone = tone;
  row.querySelector('.facts').replaceChildren(
    el('span', {}, late, ' over SLA'),
    el('span', {}, `${count(backlog.sla_compliance_percentage, 1)}% in time`),
    el('span', {}, `wait ${count(backlog.avg_wait_time_minutes, 1)} min`),
    el('span', {}, `${count(backlog.items_added_this_interval)} in, ${count(backlog.items_completed_this_interval)} done`));
  drawSparkline(spark, points, 20);
  heard(row, at);
}

function paintBacklogSum() {
  const all = [...queues.values()].map((queue) => queue.backlog);
  const items = all.reduce((sum, backlog) => sum + backlog.total_items, 0);
  const over = all.reduce((sum, backlog) => sum + (number(backlog.items_over_sla) ?? 0), 0);
  $('backlog').dataset.value = items;
  $('backlog-sum').textContent = `${show(items)} items, ${show(over)} over SLA`;
}

// === Attendance ===

const CHECKIN = { on_time: ['good', 'On time'], present: ['good', 'Present'], late: ['warn', 'Late'], absent: ['', 'Absent'] };
let checkins = [];

function onAttendance(attendance) {
  const { present_count: present, late_count: late, absent_count: absent } = attendance;
  if (Array.isArray(attendance.recent_checkins)) setCheckins(attendance.recent_checkins);
  if (number(attendance.attendance_rate) === undefined) return;
  paintSoon(() => {
    $('attendance').dataset.value = attendance.attendance_rate;
    $('attendance').querySelector('.number').textContent = show(percent(attendance.attendance_rate), 1);
    for (const [id, people] of Object.entries({ present, late, absent })) $(id).textContent = count(people);
    paintSplit(number(present) ?? 0, number(late) ?? 0, number(absent) ?? 0);
    heard($('attendance'));
  });
}

function paintSplit(present, late, absent) {
  const total = Math.max(present + absent, 1);
  let x = 0;
  for (const [name, people] of [['on-time', present - late], ['late', late], ['absent', absent]]) {
    const part = document.querySelector(`.split .${name}`);
    const width = (Math.max(people, 0) / total) * 100;
    part.setAttribute('x', x);
    part.setAttribute('width', Math.max(width - 0.5, 0));
    x += width;
  }
}

function onCheckin(checkin) {
  setCheckins([checkin, ...checkins.filter((known) => known.employee_id !== checkin.employee_id)]);
}

function setCheckins(list) {
  checkins = list.slice(0, LIMITS.checkins).map(object);
  paintSoon(paintCheckins);
}

function paintCheckins() {
  if (checkins.length === 0) return;
  $('checkins').replaceChildren(...checkins.map((checkin) => {
    const [tone, how] = pick(CHECKIN, checkin.status, ['', words(checkin.status)]);
    return el('li', {},
      el('span', { class: 'who' }, text(checkin.employee_name) || text(checkin.employee_id, 'Somebody')),
      el('span', { class: 'how', 'data-tone': tone }, how),
      el('time', {}, time(checkin.checked_in_at)));
  }));
}

// === Alerts ===

const SEVERITY = {
  info: ['info', 'info'], low: ['info', 'info'], warning: ['warn', 'warning'], medium: ['warn', 'warning'],
  error: ['bad', 'error'], high: ['bad', 'error'], critical: ['bad', 'critical'],
};
const STATUS_ICON = { triggered: 'bell', escalated: 'up', acknowledged: 'eye', resolved: 'check' };
const alerts = new Map();
let unnamed = 0;

function onAlert(data, status) {
  const id = text(data.alert_id) || `unnamed-${++unnamed}`;
  const known = alerts.get(id);
  const alert = known ?? { at: data.timestamp, node: el('li', { class: 'new' }) };
  alert.data = { ...alert.data, ...data };
  alert.status = status;
  if (!known) {
    alerts.set(id, alert);
    $('alerts').prepend(alert.node);
    if (status === 'triggered') announce(alert);
  }
  dropOldAlerts();
  paintSoon(() => paintAlert(alert));
  paintSoon(paintAlertSum);
}

/** The list is bounded; what is resolved goes first. */
function dropOldAlerts() {
  while (alerts.size > LIMITS.alerts) {
    const [id, alert] = [...alerts].find(([, { status }]) => status === 'resolved') ?? alerts.entries().next().value;
    alert.node.remove();
    alerts.delete(id);
  }
}

const severityOf = ({ severity }) => (Object.hasOwn(SEVERITY, severity) ? severity : 'warning');
const alertText = (data) => text(data.message) || text(data.rule_name) || capital(words(data.alert_type)) || 'Alert';

function paintAlert({ node, data, status, at }) {
  const severity = severityOf(data);
  const [tone, symbol] = SEVERITY[severity];
  const place = [data.queue_name, data.department_id, data.source].map(words).find(Boolean) ?? '';
  Object.assign(node.dataset, { id: text(data.alert_id), tone, severity, status });
  node.replaceChildren(
    icon(symbol),
    el('span', { class: 'text' }, capital(alertText(data))),
    el('time', {}, time(at)),
    el('span', { class: 'meta' },
      el('span', { class: 'severity' }, capital(severity)),
      el('span', { class: 'status' }, icon(STATUS_ICON[status]), capital(status)),
      el('span', {}, place)));
}

function paintAlertSum() {
  const open = [...alerts.values()].filter(({ status }) => status !== 'resolved').length;
  $('alerts-sum').dataset.value = open;
  $('alerts-sum').textContent = open === 0 ? 'None open' : `${open} open`;
  $('alerts-empty').hidden = alerts.size > 0;
}

function announce({ data }) {
  const severity = severityOf(data);
  if (SEVERITY[severity][0] === 'bad') $('announcer').textContent = `${capital(severity)} alert: ${alertText(data)}`;
}

// === Banner ===

const NOTICE_MS = 25_000;
const MAINTENANCE_MS = 300_000;
let noticeTimer;

function onNotice(data, title, lasting) {
  $('banner-title').textContent = text(data.title, title);
  $('banner-text').textContent = text(data.message) || text(data.text);
  $('banner-time').textContent = time(data.timestamp);
  $('banner').dataset.tone = lasting || data.level === 'warning' ? 'warn' : data.level === 'error' ? 'bad' : 'info';
  $('banner').classList.add('open');
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(closeBanner, lasting ? MAINTENANCE_MS : NOTICE_MS);
}

const closeBanner = () => $('banner').classList.remove('open');

// === Frames ===

const encoder = new TextEncoder();
let fresh = [];
let recent = [];
let paused = false;
let missed = 0;
let received = 0;

function noteFrame(name, payload) {
  const json = JSON.stringify(payload) ?? '';
  const frame = { name, at: time(), payload, size: encoder.encode(json).length };
  recent = [frame, ...recent.slice(0, 19)];
  fresh = [...fresh.slice(1 - LIMITS.frames), frame];
  if (paused) missed += 1;
  paintSoon(paintFrames);
}

/** An envelope tells nothing new but the priority and position of the named frame before it. */
function noteEnvelope(envelope) {
  const frame = recent.find(({ name, priority }) => name === envelope.event && !priority);
  if (!frame) return;
  frame.priority = text(envelope.priority, 'medium');
  frame.position = text(envelope.position);
  if (frame.node) paintPriority(frame);
}

function paintFrames() {
  $('frames-missed').textContent = paused ? `${missed} new` : '';
  if (paused) return;
  $('frames').prepend(...fresh.map(frameItem).reverse());
  fresh = [];
  while ($('frames').children.length > LIMITS.frames) $('frames').lastElementChild.remove();
}

function frameItem(frame) {
  const size = frame.size < 1024 ? `${frame.size} B` : `${show(frame.size / 1024, 1)} kB`;
  const details = el('details', {}, el('summary', {},
    el('time', {}, frame.at), el('span', { class: 'name' }, text(frame.name)),
    el('span', { class: 'priority' }), el('span', { class: 'size' }, size)));
  // Whoever opens a frame wants to read it: the list stands still, and only now is the payload written out.
  details.addEventListener('toggle', () => {
    if (!details.open || details.children.length > 1) return;
    if (!paused) setPaused(true);
    const position = frame.position ? `position ${frame.position}\n` : '';
    details.append(el('pre', { tabindex: '0' }, position + JSON.stringify(frame.payload, null, 2)));
  });
  frame.node = el('li', {}, details);
  if (frame.priority) paintPriority(frame);
  return frame.node;
}

function paintPriority({ node, priority }) {
  node.dataset.priority = priority;
  node.querySelector('.priority').textContent = priority;
}

function setPaused(value) {
  paused = value;
  missed = 0;
  $('pause').setAttribute('aria-pressed', paused);
  $('pause').querySelector('span').textContent = paused ? 'Resume' : 'Pause';
  setIcon($('pause'), paused ? 'play' : 'pause');
  paintSoon(paintFrames);
}

// === Publishing ===

/** The body that the page proposes for the chosen event; $new and $open in it stand for alerts, $now for the time. */
function proposal() {
  const unused = `alert_${Math.random().toString(16).slice(2, 10)}`;
  const open = [...alerts].reverse().find(([, { status }]) => status !== 'resolved')?.[0] ?? unused;
  const values = { $new: unused, $open: open, $now: new Date().toISOString() };
  const filled = (_, value) => pick(values, value, value);
  return JSON.stringify(JSON.parse($('publish-event').selectedOptions[0].dataset.body, filled), null, 2);
}

let template = '';

function useTemplate() {
  template = $('publish-body').value = proposal();
  checkBody();
}

/** The body as an object, or undefined with the problem shown. */
function checkBody() {
  let body, problem = '';
  try {
    body = JSON.parse($('publish-body').value);
    if (object(body) !== body) problem = 'The body has to be a JSON object, such as { "message": "Hello" }.';
  } catch (error) {
    problem = `This is not JSON: ${error.message}`;
  }
  $('publish-problem').textContent = problem;
  $('publish-body').setAttribute('aria-invalid', problem !== '');
  return problem ? undefined : body;
}

async function publish(submit) {
  submit.preventDefault();
  const body = checkBody();
  if (!body) return $('publish-body').focus();
  const target = { organization_id: settings.organization };
  for (const [field, input] of [['department_id', 'publish-department'], ['queue_name', 'publish-queue']]) {
    if ($(input).value.trim()) target[field] = $(input).value.trim();
  }
  const data = { ...target, timestamp: new Date().toISOString(), ...body };
  const button = $('publish-form').querySelector('[type="submit"]');
  button.disabled = true;
  try {
    showAnswer(await post({ event: $('publish-event').value, data, target }));
  } catch (error) {
    showAnswer({ ok: false, title: 'No answer', facts: { reason: error.message } });
  }
  button.disabled = false;
}

async function post(request) {
  const response = await fetch('/api/ws/broadcast', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(10_000),
  });
  const answer = object(await response.json().catch(() => ({})));
  if (response.ok) {
    const { message_id, recipients_count, position } = answer;
    return { ok: true, title: 'Published', facts: { message: message_id, recipients: recipients_count, position } };
  }
  const details = text(answer.details) || JSON.stringify(answer.details);
  return { ok: false, title: text(answer.error) || response.statusText || 'Refused', facts: { status: response.status, code: answer.code, details } };
}

function showAnswer({ ok, title, facts }) {
  const known = Object.entries(facts).filter(([, value]) => text(value) !== '');
  $('publish-answer').dataset.tone = ok ? 'good' : 'bad';
  $('publish-answer').dataset.state = ok ? 'published' : 'refused';
  const rows = known.flatMap(([name, value]) => [el('dt', {}, capital(name)), el('dd', {}, text(value))]);
  $('publish-answer').replaceChildren(el('strong', {}, title), el('dl', {}, ...rows));
  // Once the page has its new heights.
  setTimeout(() => $('publish-answer').scrollIntoView({ block: 'nearest' }), 400);
}

// === Connection ===

const STATES = { connecting: ['Connecting', 'turn'], live: ['Live', 'live'], reconnecting: ['Reconnecting', 'turn'], offline: ['Offline', 'offline'] };

function setState(state, detail = '') {
  const [name, symbol] = STATES[state];
  $('state').dataset.state = state;
  $('state-name').querySelector('span').textContent = name;
  $('state-detail').textContent = text(detail);
  $('reconnect').hidden = state !== 'offline' || typeof io === 'undefined';
  setIcon($('state'), symbol);
  document.title = `${state === 'live' ? '' : `${name} · `}Tiercast · ${settings.organization}`;
}

/** What each event does; an event that is not here only shows among the frames. */
const HANDLERS = new Map([
  ['kpi:update', onKpi], ['kpi:computed', onKpi],
  ['backlog:update', onBacklog], ['backlog:snapshot', onBacklog],
  ['attendance:update', onAttendance], ['attendance:checkin', onCheckin],
  ['alert:triggered', (data) => onAlert(data, 'triggered')], ['alert:escalated', (data) => onAlert(data, 'escalated')],
  ['alert:acknowledged', (data) => onAlert(data, 'acknowledged')], ['alert:resolved', (data) => onAlert(data, 'resolved')],
  ...['kpi', 'backlog', 'attendance'].map((channel) => [`${channel}:alert`, (data) => onAlert({ source: channel, ...data }, 'triggered')]),
  ['system:notification', (data) => onNotice(data, 'Notification')],
  ['system:broadcast', (data) => onNotice(data, 'Broadcast')],
  ['system:maintenance', (data) => onNotice(data, 'Maintenance', true)],
  ['connected', (data) => { $('socket-id').textContent = text(data.socket_id); }],
  ['error', (data) => onNotice({ level: 'error', title: data.code, message: data.message }, 'Error')],
]);

function onEvent(name, payload, ...rest) {
  // Every event comes in two forms; the named one counts, and the envelope only adds to it.
  if (name === 'message') return noteEnvelope(object(payload));
  received += 1;
  noteFrame(name, payload);
  HANDLERS.get(name)?.(object(payload));
  const acknowledge = rest.at(-1);
  if (typeof acknowledge === 'function') acknowledge({ received_at: new Date().toISOString() });
}

function connect() {
  const socket = io({ path: settings.path });
  let seen = false;
  // A socket that is no longer active does not come back by itself.
  const lost = (reason) => setState(!socket.active ? 'offline' : seen ? 'reconnecting' : 'connecting', reason);

  socket.onAny(onEvent);
  socket.on('connect', () => {
    seen = true;
    showTransport(socket.io.engine.transport);
    socket.io.engine.on('upgrade', showTransport);
    authenticate(socket);
  });
  socket.on('disconnect', (reason) => {
    for (const id of ['latency', 'transport', 'socket-id']) $(id).textContent = '–';
    lost(reason === 'io server disconnect' ? 'ended by the server' : reason);
  });
  socket.on('connect_error', (error) => lost(error.message));
  $('reconnect').addEventListener('click', () => {
    setState('connecting');
    socket.disconnect().connect();
  });
  setInterval(() => ping(socket), PING_MS);
}

const showTransport = (transport) => { $('transport').textContent = transport.name; };

async function authenticate(socket) {
  const who = { user_id: settings.user, organization_id: settings.organization, forms: 'both' };
  try {
    await ask(socket, 'authenticate', who);
    await ask(socket, 'subscribe', { channels: ['all'] });
    setState('live', socket.recovered ? 'recovered, nothing missed' : '');
    ping(socket);
  } catch (error) {
    // When the connection itself is gone, its own state tells more.
    if (socket.connected) setState('offline', error.message);
  }
}

/** The ack of an event, which says whether it succeeded. */
async function ask(socket, event, payload) {
  const answer = object(await socket.timeout(8_000).emitWithAck(event, payload));
  if (answer.success !== true) throw new Error(text(answer.message) || `${event} was refused`);
}

function ping(socket) {
  if (!socket.connected) return;
  const start = performance.now();
  socket.timeout(PING_MS - 500).emit('client:ping', { timestamp: Date.now() }, (error) => {
    const took = performance.now() - start;
    $('latency').textContent = error ? 'no answer' : `${show(took, took < 10 ? 1 : 0)} ms`;
  });
}

// === Start ===

const totals = [];

/** Once a second: the clock, the rate over the last five seconds, and what has grown stale. */
function tick() {
  totals.push(received);
  if (totals.length > 6) totals.shift();
  const rate = (totals.at(-1) - totals[0]) / Math.max(totals.length - 1, 1);
  $('rate').textContent = `${show(rate, rate < 10 ? 1 : 0)} /s`;
  $('clock').textContent = new Date().toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  for (const tile of document.querySelectorAll('[data-updated]')) markStale(tile);
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  setIcon($('theme'), isDark() ? 'sun' : 'moon');
}

const darkSystem = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (document.documentElement.dataset.theme ?? (darkSystem.matches ? 'dark' : 'light')) === 'dark';

/** Reads or keeps the chosen theme. Storage may be forbidden; the page then follows the system. */
function storedTheme(theme) {
  try {
    if (theme) localStorage.setItem('tiercast.theme', theme);
    return localStorage.getItem('tiercast.theme');
  } catch {
    return null;
  }
}

function listen() {
  $('theme').addEventListener('click', () => {
    const theme = isDark() ? 'light' : 'dark';
    storedTheme(theme);
    setTheme(theme);
  });
  darkSystem.addEventListener('change', () => setTheme());
  $('banner-close').addEventListener('click', closeBanner);
  $('pause').addEventListener('click', () => setPaused(!paused));
  $('scope').addEventListener('change', paintKpis);
  $('publish-form').addEventListener('submit', publish);
  $('publish-body').addEventListener('input', checkBody);
  $('publish-template').addEventListener('click', useTemplate);
  // A body that somebody has written is not thrown away for a template.
  $('publish-event').addEventListener('change', () => { if ($('publish-body').value === template) useTemplate(); });
}

function start() {
  setTheme(['light', 'dark'].find((theme) => theme === storedTheme()));
  $('organization').textContent = settings.organization;
  useTemplate();
  listen();
  tick();
  setInterval(tick, 1000);
  if (typeof io === 'undefined') {
    $('hint').hidden = false;
    return setState('offline', 'No Socket.IO client');
  }
  setState('connecting');
  connect();
}

start();
