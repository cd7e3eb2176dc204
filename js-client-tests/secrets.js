// What the clients of a test file know and nobody else may: session ids, `pid`s, tokens and keys.
//
// The harness asks after every server whether one of them stands in what the
// server wrote: its log, at the most talkative level, and its API's answers.

const held = new Map();

/** Notes a secret. Of a token only the signature is one: the rest is readable for everybody. */
export function hold(what, secret) {
  const part = typeof secret === 'string' ? secret.split('.').at(-1) : '';
  if (part.length >= 8) held.set(part, what);
}

/** Notes what a Socket.IO client is given, at each of its connections. */
export function holdThoseOf(socket) {
  const manager = socket.io;
  const session = () => hold('a session id', manager.engine?.id);
  manager.on?.('open', session);
  session();
  socket.on('connect', () => hold('a pid', socket._pid));
}

/** Notes the session id of an OPEN packet. */
export function holdThatOf(payload) {
  hold('a session id', /^(?:\d+:)?0\{"sid":"([^"]+)"/.exec(payload)?.[1]);
}

/** What was written of all that is secret, and where. */
export function found(text) {
  for (const [secret, what] of held) {
    const at = text.indexOf(secret);
    if (at >= 0) return `${what} in ${JSON.stringify(text.slice(Math.max(0, at - 200), at + 100))}`;
  }
  return undefined;
}

/** How many secrets there are. */
export const count = () => held.size;
