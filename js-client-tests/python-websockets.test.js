// The library `websockets` of Python: an implementation of RFC 7692 that shares nothing with Node's or a browser's.
//
// `make test-js` installs it into `.venv`; `python/interop.py` is the client.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startServer } from './harness.js';

const PYTHON = fileURLToPath(new URL('./.venv/bin/python', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./python/interop.py', import.meta.url));
const DEADLINE_MS = 60_000;

// The script asks as fast as it gets answers.
const config = { limits: { rate_limit_messages_per_second: 1_000_000, rate_limit_bytes_per_second: 0 } };

const cases = {
  default: 'what it offers by itself compresses both ways',
  'no-compression': 'without an offer nothing is compressed',
  'server-window-15': 'a server window of 15 bits is granted',
  'server-window-10': 'a smaller server window is declined, and the connection works without compression',
  'server-window-10-or-any': 'the second of two offers is taken when the first asks for a smaller server window',
  'client-window-unmentioned': 'an offer without a client window',
  'client-window-9': 'a client window of 9 bits',
  'client-window-15': 'a client window of 15 bits',
  'server-without-context': 'no context takeover of the server',
  'client-without-context': 'no context takeover of the client',
  everything: 'an offer of every parameter',
  stored: 'a client that compresses nothing in its compressed messages',
  best: 'a client that compresses as well as it can',
  fragments: 'fragments of compressed messages',
  'fragments-uncompressed': 'fragments of messages that are not compressed',
  binary: 'compressed binary events are refused, and the socket stays',
  'binary-uncompressed': 'binary events that are not compressed are refused, and the socket stays',
};

for (const [name, what] of Object.entries(cases)) {
  test(`websockets for Python: ${what}`, async (t) => {
    const server = await startServer(t, { config });
    const { stderr } = await promisify(execFile)(PYTHON, [SCRIPT, server.url, name], { timeout: DEADLINE_MS });
    assert.equal(stderr, '');
    await server.holds(0);
  });
}
