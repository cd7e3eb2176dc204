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

async function openDemo(t, options) {
  const server = await startServer(t, { args: ['--demo'] });
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
  const { server, page } = await openDemo(t);
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

/** A site of another origin with one page. */
async function openSite(t) {
  const site = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html').end('<!doctype html><title>a dashboard elsewhere</title>');
  });
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => site.close(resolve).closeAllConnections()));
  // By another name than the server's, so that it is another site and not just another port.
  return `http://localhost:${site.address().port}`;
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
          if (engine.upgrading || (engine.transport.name === 'polling' && engine.upgrades?.length)) engine.once('upgrade', settled);
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
