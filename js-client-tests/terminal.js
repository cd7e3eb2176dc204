// A tool that a person types into, in a terminal of its own.

import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { within, withoutColors } from './harness.js';

const bin = fileURLToPath(new URL('./node_modules/.bin/', import.meta.url));

/** Starts a tool of node_modules; it ends with the test. Some tools print nothing without a terminal, so `script` gives them one. */
export function openTerminal(t, tool, ...args) {
  const quoted = [path.join(bin, tool), ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const child = spawn('script', ['--quiet', '--flush', '--return', '--command', quoted, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...process.env, TERM: 'xterm', NO_COLOR: '1' },
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  t.after(async () => {
    // Like a window that is closed: the tool is hung up on, and asked nothing first.
    child.kill('SIGKILL');
    await within(ended, () => `${tool} to end`);
  });

  let unread = '';
  let look = () => {};
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text) => {
    unread = withoutColors(unread + text);
    look();
  });
  // Closed by the tool's own end, which the test sees in what is shown.
  child.stdin.on('error', () => {});

  return {
    /** Types a line and presses return. */
    type(line) {
      child.stdin.write(`${line}\r`);
    },
    /** Waits until the screen shows this, and forgets everything up to there. */
    async shows(pattern) {
      const shown = new Promise((resolve) => {
        look = () => {
          const match = pattern.exec(unread);
          if (!match) return;
          unread = unread.slice(match.index + match[0].length);
          look = () => {};
          resolve(match);
        };
        look();
      });
      const gone = ended.then(() => {
        throw new Error(`${tool} ended and did not show ${pattern}:\n${unread}`);
      });
      gone.catch(() => {});
      return within(Promise.race([shown, gone]), () => `${tool} to show ${pattern}:\n${unread}`);
    },
  };
}
