// The demo dashboard, and pages of other origins, in a real browser.

import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import test from 'node:test';
import { openPage, screenshotFolder } from './browser.js';
import { startServer } from './harness.js';
import { alert, kpi } from './payloads.js';

const LIVE = '#state[data-state="live"]';
const ORGANIZATION = 'org_demo';

async function openDemo(t, { environment, ...options } = {}) {
  const server = await startServer(t, { args: ['--demo'], environment });
  const page = await openPage(t, options);
  await page.goto(server.url);
  await page.waitForSelector(LIVE);
  return { server, page };
}

/** A list entry with this text. */
const shows = (page, list, text) => page.locator(`${list} li`, { hasText: text }).first().waitFor();

test('the demo page goes live and its values move', async (t) => {
  const { page } = await openDemo(t);
  for (const tile of ['#kpi-utilization', '#kpi-sla', '#kpi-headcount', '#kpi-health', '#attendance', '#backlog']) {
    await page.waitForSelector(`${tile}[data-value]`);
  }
  const first = await page.getAttribute('#kpi-utilization', 'data-value');
  await page.waitForSelector(`#kpi-utilization[data-value]:not([data-value="${first}"])`);
  await page.waitForSelector('#frames li');
  assert.match(await page.textContent('#kpi-utilization .number'), /\d/);
  assert.deepEqual(page.faults, []);
});

test('what curl publishes appears on the demo page', async (t) => {
  // The next value that is made up would take the place of this one before anybody has seen it.
  const { server, page } = await openDemo(t, { environment: { TIERCAST__DOORS__DEMO__INTERVAL_MS: '3600000' } });
  await server.reaches(1, '/broadcast/kpi', kpi(ORGANIZATION, { health_score: 41.75 }));
  await page.waitForSelector('#kpi-health[data-value="41.75"]');

  const marker = 'The marker <b>alert</b> of this test';
  await server.reaches(1, '/broadcast/alert', alert(ORGANIZATION, { alert_id: 'marker', severity: 'critical', message: marker }));
  await shows(page, '#alerts', marker);
  await shows(page, '#frames', 'alert:triggered');

  const notice = 'System maintenance in 10 minutes';
  await server.reaches(1, '/broadcast', {
    event: 'system:notification',
    data: { message: notice },
    target: { organization_id: ORGANIZATION },
  });
  await page.locator('#banner', { hasText: notice }).waitFor();
  assert.deepEqual(page.faults, []);
});

test('the publish form of the demo page publishes', async (t) => {
  const { page } = await openDemo(t);
  const marker = 'raised by the form';
  await page.selectOption('#publish-event', 'alert:triggered');
  await page.fill('#publish-body', JSON.stringify({ alert_id: 'by-form', severity: 'error', message: marker, status: 'active' }));
  await page.click('#publish-form [type="submit"]');
  await page.waitForSelector('#publish-answer[data-state="published"]');
  assert.match(await page.textContent('#publish-answer'), /msg_\d+_/);
  await shows(page, '#alerts', marker);
  assert.deepEqual(page.faults, []);
});

test('the publish form says what is wrong with a body, and publishes nothing', async (t) => {
  const { page } = await openDemo(t);
  await page.fill('#publish-body', '{"message": ');
  await page.click('#publish-form [type="submit"]');
  await page.locator('#publish-problem', { hasText: /JSON/ }).waitFor();
  assert.equal(await page.textContent('#publish-answer'), '');
  assert.deepEqual(page.faults, []);
});

test('the demo page shows an outage, and recovers from it by itself', async (t) => {
  const { server, page } = await openDemo(t);
  await server.terminate();
  await page.waitForSelector('#state[data-state="reconnecting"]');
  await startServer(t, { args: ['--demo'], config: { server: { port: server.port } } });
  await page.waitForSelector(LIVE);
});

const screens = {
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true },
  laptop: { viewport: { width: 1280, height: 800 } },
  wall: { viewport: { width: 1920, height: 1080 } },
};

for (const [screen, options] of Object.entries(screens)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`the demo page fits a ${screen} in ${colorScheme}`, async (t) => {
      const { server, page } = await openDemo(t, { ...options, colorScheme });
      await server.publish('/broadcast/alert', alert(ORGANIZATION, { severity: 'critical', message: 'x'.repeat(200) }));
      await shows(page, '#alerts', 'xxx');
      await page.waitForSelector('#backlog[data-value]');
      const { width, wanted } = await page.evaluate(() => ({
        width: document.documentElement.clientWidth,
        wanted: document.documentElement.scrollWidth,
      }));
      assert.ok(wanted <= width, `the page is ${wanted} wide on a screen of ${width}`);
      const file = path.join(await screenshotFolder(t), `demo-${screen}-${colorScheme}.png`);
      await page.screenshot({ path: file, fullPage: true });
      t.diagnostic(file);
      assert.deepEqual(page.faults, []);
    });
  }
}

/** A site of another origin with one page; by default by another name than the server's, and not just at another port. */
async function openSite(t, host = 'localhost') {
  const site = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html').end('<!doctype html><title>a dashboard elsewhere</title>');
  });
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => site.close(resolve).closeAllConnections()));
  return `http://${host}:${site.address().port}`;
}

/** Connects from the page and resolves to what came of it. */
function connectFrom(page, url, options) {
  return page.evaluate(
    ([url, options]) =>
      new Promise((resolve) => {
        const socket = window.io(url, { path: '/ws', withCredentials: true, reconnection: false, ...options });
        socket.on('connect_error', (error) => resolve({ error: error.message }));
        socket.on('connect', async () => {
          const ack = await socket.timeout(5_000).emitWithAck('authenticate', { user_id: 'user_1', organization_id: 'acme' });
          const { engine } = socket.io;
          const settled = () => resolve({ success: ack.success, transport: engine.transport.name });
          if (engine.transport.name === 'polling' && engine._upgrades.length > 0) engine.once('upgrade', settled);
          else settled();
        });
      }),
    [url, options],
  );
}

for (const [how, options, transport] of [
  ['on polling', { transports: ['polling'] }, 'polling'],
  ['on WebSocket', { transports: ['websocket'] }, 'websocket'],
  ['with the stock transports', {}, 'websocket'],
]) {
  test(`a page of an allowed origin connects with credentials, ${how}`, async (t) => {
    const site = await openSite(t);
    const server = await startServer(t, { config: { server: { cors_origins: [site] } } });
    const page = await openPage(t);
    await page.goto(site);
    await page.addScriptTag({ url: `${server.url}/ws/socket.io.js` });
    assert.deepEqual(await connectFrom(page, server.url, options), { success: true, transport });
  });

  test(`a page of an origin that is not allowed does not connect, ${how}`, async (t) => {
    const site = await openSite(t);
    const server = await startServer(t);
    const page = await openPage(t);
    await page.goto(site);
    await page.addScriptTag({ path: new URL('./node_modules/socket.io-client/dist/socket.io.js', import.meta.url).pathname });
    const { error } = await connectFrom(page, server.url, options);
    assert.match(error, /error/);
    await server.holds(0);
  });
}

/** What a page finds out about the server without the help of a client. */
function probeFrom(page, url) {
  return page.evaluate(async (url) => {
    const handshake = `${url}/ws/?EIO=4&transport=polling`;
    const outcome = (request) => request.then((response) => response.type, () => 'failed');
    const opened = (path) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url.replace('http', 'ws') + path);
        socket.onopen = () => resolve('opened') ?? socket.close();
        socket.onerror = () => resolve('failed');
      });
    return {
      read: await outcome(fetch(handshake)),
      withCookies: await outcome(fetch(handshake, { credentials: 'include' })),
      blind: await outcome(fetch(handshake, { mode: 'no-cors', credentials: 'include' })),
      socketio: await opened('/ws/?EIO=4&transport=websocket'),
      plain: await opened('/ws'),
      framed: await new Promise((resolve) => {
        const frame = document.createElement('iframe');
        frame.onload = () => resolve(frame.contentDocument === null ? 'nothing of ours' : 'blank');
        frame.src = `${url}/`;
        document.body.append(frame);
      }),
    };
  }, url);
}

const PATTERNS = ['http://*.dash.localhost:*'];

for (const host of ['dash.localhost', 'evildash.localhost', 'a.dash.localhost.evil.localhost', 'localhost']) {
  test(`a page of ${host} is a stranger where only what is under dash.localhost may come in`, async (t) => {
    const site = await openSite(t, host);
    const server = await startServer(t, { args: ['--demo'], config: { auth: { allow_trusted: true }, server: { cors_origins: PATTERNS } } });
    const page = await openPage(t);
    await page.goto(site);
    const probed = await probeFrom(page, server.url);
    assert.deepEqual(probed, { read: 'failed', withCookies: 'failed', blind: 'failed', socketio: 'failed', plain: 'failed', framed: 'nothing of ours' });
    assert.ok(page.faults.some((fault) => /frame-ancestors/.test(fault)), page.faults.join('\n'));
    await page.addScriptTag({ url: `${server.url}/ws/socket.io.js` });
    for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
      const { error } = await connectFrom(page, server.url, { transports });
      assert.match(error, /error/, `${transports}`);
    }
    const metrics = (await server.get('/stats')).body.stats;
    assert.equal(metrics.active_connections, 0);
    assert.equal(metrics.total_connections, 0, 'a blind request has made no session either');
  });
}

for (const host of ['a.dash.localhost', 'a.b.dash.localhost']) {
  test(`a page of ${host} comes in where what is under dash.localhost may`, async (t) => {
    const site = await openSite(t, host);
    const server = await startServer(t, { config: { server: { cors_origins: PATTERNS } } });
    const page = await openPage(t);
    await page.goto(site);
    await page.addScriptTag({ url: `${server.url}/ws/socket.io.js` });
    for (const [transports, transport] of [[['polling'], 'polling'], [['websocket'], 'websocket'], [['polling', 'websocket'], 'websocket']]) {
      assert.deepEqual(await connectFrom(page, server.url, { transports }), { success: true, transport });
    }
    assert.deepEqual(page.faults, []);
  });
}

test('the demo page runs under a policy without anything inline', async (t) => {
  const { server, page } = await openDemo(t);
  const { headers } = await page.request.get(server.url).then((answer) => ({ headers: answer.headers() }));
  assert.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self'; style-src 'self';/);
  const refused = await page.evaluate(() => {
    const violated = new Promise((resolve) => document.addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective)));
    const script = document.createElement('script');
    script.textContent = 'window.injected = true';
    document.head.append(script);
    return violated;
  });
  assert.equal(refused, 'script-src-elem');
  assert.equal(await page.evaluate(() => window.injected), undefined);
});
