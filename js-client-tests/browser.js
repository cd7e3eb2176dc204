// Chromium, driven without a window.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * A page of its own browser, closed when the test ends.
 *
 * `page.faults` collects what went wrong in it: uncaught errors, error lines of
 * the console and failed requests.
 */
export async function openPage(t, options = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
  t.after(() => browser.close());
  const page = await browser.newPage(options);
  page.setDefaultTimeout(15_000);

  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(`uncaught: ${error}`));
  page.on('console', (line) => line.type() === 'error' && page.faults.push(`console: ${line.text()}`));
  page.on('requestfailed', (req) => page.faults.push(`failed: ${req.url()} ${req.failure()?.errorText}`));

  /** An empty page of that origin; the server itself is not asked for it. */
  page.blank = async (origin) => {
    const url = `${origin}/blank.html`;
    await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>blank</title>' }));
    await page.goto(url);
  };
  return page;
}

/** A folder for screenshots; it stays when TIERCAST_SCREENSHOTS names it, and goes with the test otherwise. */
export async function screenshotFolder(t) {
  if (process.env.TIERCAST_SCREENSHOTS) return process.env.TIERCAST_SCREENSHOTS;
  const folder = await mkdtemp(path.join(tmpdir(), 'tiercast-shots-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
