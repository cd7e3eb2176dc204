// Frames that make no sense get the dialect's error; the connection and the server stay.

import assert from 'node:assert/strict';
import test from 'node:test';
import { request, startServer } from './harness.js';
import { freePort, intake, openPlain, refusal, token } from './plain.js';
import { accessToken } from './frontends/gym.js';
import { visit } from './frontends/dexter.js';

const isText = (value) => typeof value === 'string' && value.length > 0;
const DEPTH = 500_000;
const LONG = 'x'.repeat(10_000);
/** What a page would run if an error were put into it unescaped. */
const HOSTILE = '"}</script><img src=x onerror=alert(1)>\u0000\u0007\u2028\\';

/** How each dialect is entered, how it pings, what its errors look like, and what it cannot make sense of. */
const dialects = {
  intraday: {
    path: '/ws',
    key: 'event',
    ping: { event: 'client:ping' },
    pong: 'client:ping:ack',
    error: ({ event, data }) => event === 'error' && isText(data.code) && isText(data.message),
    enter: (socket) => login(socket, { event: 'authenticate', data: { user_id: 'ann', organization_id: 'acme' } }, 'authenticate:ack'),
    wrong: [
      { event: 'authenticate' },
      { event: 'authenticate', data: [] },
      { event: 'authenticate', data: { user_id: 7, organization_id: 'acme' } },
      { event: 'authenticate', data: { user_id: 'ann', organization_id: { $ne: null } } },
      { event: 'subscribe' },
      { event: 'subscribe', data: 'kpi' },
      { event: 'subscribe', data: { channels: 'kpi' } },
      { event: 'subscribe', data: { channels: [1] } },
      { event: 'subscribe', data: { channels: ['unheard-of'] } },
      { event: 'subscribe', data: { channels: ['kpi'], queue_name: 'bell\u0007' } },
      { event: 'unsubscribe', data: { subscription_id: 7 } },
      { event: 'message', data: 7 },
    ],
  },
  workmatrix: {
    example: 'workmatrix',
    path: '/',
    key: 'type',
    ping: { type: 'ping' },
    pong: 'pong',
    error: ({ type, error, data, timestamp }) => type === 'error' && isText(error) && data.message === error && isText(timestamp),
    enter: (socket) => login(socket, { type: 'auth', user_id: 'ann' }, 'auth_success'),
    texts: { '{': 'Invalid JSON message', '{"type":"unheard-of"}': 'Unknown message type: unheard-of' },
    wrong: [
      { type: 'auth' },
      { type: 'auth', user_id: '' },
      { type: 'auth', user_id: 7 },
      { type: 'auth', user_id: ['ann'] },
      { type: 'auth', user_id: LONG },
      { type: 'auth', user_id: 'line\nbreak' },
      { type: 'auth', data: 'ann' },
      { type: 'auth', data: { userId: {} } },
      { type: 'activity_update' },
      { type: 'activity_update', data: 7 },
      { type: 'screenshot_update', data: 'base64' },
      { type: 'status_update', status: { a: 1 } },
    ],
  },
  dexter: {
    example: 'dexter',
    path: '/ws/test-client',
    key: 'type',
    ping: { type: 'ping' },
    pong: 'pong',
    error: ({ type, error, message }) => type === 'error' && isText(error) && isText(message),
    enter: (socket) => socket.frames.next('connection'),
    texts: { '{': 'Invalid JSON' },
    wrong: [
      { type: 'subscribe' },
      { type: 'subscribe', channel: 7 },
      { type: 'subscribe', channel: '' },
      { type: 'subscribe', channel: ['issues'] },
      { type: 'subscribe', channel: 'unheard-of' },
      { type: 'subscribe', channel: 'issue:' },
      { type: 'subscribe', channel: `issue:${LONG}` },
      { type: 'subscribe', channel: 'kpi' },
      { type: 'unsubscribe', channel: {} },
    ],
  },
  gym: {
    example: 'gym',
    path: `/ws/checkins/?token=${accessToken(1)}`,
    key: 'type',
    ping: { type: 'ping' },
    pong: 'pong',
    error: ({ type, message, payload }) =>
      (type === 'error' && isText(message) && payload.message === message) ||
      (/^check_(in|out)_error$/.test(type) && isText(payload.error)),
    enter: (socket) => socket.frames.next('initial_stats'),
    texts: { '{': 'Invalid JSON format' },
    wrong: [
      { type: 'check_in' },
      { type: 'check_in', data: 7 },
      { type: 'check_in', data: {} },
      { type: 'check_in', data: { memberId: { $ne: null } } },
      { type: 'check_in', data: { memberId: '' } },
      { type: 'check_in', payload: [1] },
      { type: 'check_out', data: { checkInId: 7 } },
      { type: 'check_out' },
      { type: 'batch', batches: 7 },
    ],
  },
  apier: {
    example: 'apier',
    path: '/events/ws',
    key: 'type',
    ping: { type: 'ping' },
    pong: 'pong',
    error: ({ type, error }) => type === 'error' && isText(error),
    enter: () => {},
    wrong: [
      { type: 'subscribe' },
      { type: 'subscribe', data: 'events' },
      { type: 'subscribe', data: {} },
      { type: 'subscribe', data: { channel: 7 } },
      { type: 'subscribe', data: { channel: 'unheard-of' } },
      { type: 'unsubscribe', data: { channel: [] } },
      { type: 'event_created', data: { id: 'evt_1' } },
    ],
  },
};

async function login(socket, frame, answer) {
  socket.send(frame);
  await socket.frames.next(answer);
}

/** A server with this dialect, whose rate bounds none of what follows unless it is told to. */
async function start(t, { example = 'intraday' }, rate = 10_000) {
  const listen = example === 'workmatrix' ? { TIERCAST__DOORS__WORKMATRIX__LISTEN: `127.0.0.1:${await freePort()}` } : {};
  const environment = { TIERCAST__LIMITS__RATE_LIMIT_MESSAGES_PER_SECOND: `${rate}`, ...listen };
  return startServer(t, { example, environment });
}

for (const [name, dialect] of Object.entries(dialects)) {
  const { key, path, ping, pong, error, enter } = dialect;

  /** Sends something, then a ping; whatever came before the pong must be one error or more of this dialect. */
  async function refuses(socket, frame, options, what = JSON.stringify(frame).slice(0, 200)) {
    const before = socket.frames.entries.length;
    socket.send(frame, options);
    socket.send(ping);
    await socket.frames.next(pong);
    const answers = socket.frames.entries.slice(before).map((entry) => entry.frame);
    // What answers by name, such as `subscribe:ack`, comes beside the error.
    const errors = answers.filter((answer) => error(answer));
    assert.ok(errors.length > 0, `${what} was answered ${JSON.stringify(answers)}`);
    assert.equal(socket.closed, undefined, what);
    return errors;
  }

  async function entered(t) {
    const server = await start(t, dialect);
    const socket = await openPlain(server, path);
    await enter(socket);
    return { server, socket };
  }

  test(`${name}: what is not JSON, or no object, or has no type`, async (t) => {
    const { socket } = await entered(t);
    const texts = ['', ' ', '{', 'hello', '{"a":}', '{} {}', '[1', "{'type':'ping'}", 'undefined', '2probe', '42["client:ping"]'];
    const shapes = ['[]', '1', 'null', 'true', '"ping"', '{}', '[{}]', `{"${key}":null}`, `{"${key}":7}`, `{"${key}":{}}`, `{"${key}":["ping"]}`, `{"${key}":""}`];
    for (const text of [...texts, ...shapes]) await refuses(socket, text);
    for (const [text, message] of Object.entries(dialect.texts ?? {})) {
      const [frame] = await refuses(socket, text);
      assert.ok([frame.error, frame.message].includes(message), `${text}: ${JSON.stringify(frame)}`);
    }
  });

  test(`${name}: unknown types, and nothing is echoed that a page could run`, async (t) => {
    const { socket } = await entered(t);
    for (const type of ['unheard-of', 'constructor', '__proto__', 'toString', HOSTILE, LONG, 'kpi:update', 'connected', 'ack:ack']) {
      // Every frame is read as JSON, so one that is not escaped fails there.
      await refuses(socket, { [key]: type });
    }
  });

  test(`${name}: known types with something else in them`, async (t) => {
    const { socket } = await entered(t);
    for (const frame of dialect.wrong) await refuses(socket, frame);
  });

  test(`${name}: a megabyte of nesting`, async (t) => {
    const { socket } = await entered(t);
    for (const [open, close] of [['[', ']'], ['{"a":', '}']]) {
      const depth = Math.floor(DEPTH / ((open.length + close.length) / 2));
      const deep = open.repeat(depth) + (open === '[' ? '' : '1') + close.repeat(depth);
      await refuses(socket, `{"${key}":${deep}}`, {}, `${depth} times ${open}`);
      await refuses(socket, deep, {}, `${depth} times ${open}, bare`);
      await refuses(socket, open.repeat(depth), {}, `${depth} times ${open}, never closed`);
    }
  });

  test(`${name}: more than a message may hold`, async (t) => {
    const { socket } = await entered(t);
    await refuses(socket, { ...ping, padding: 'x'.repeat(1_500_000) }, {}, 'a message that is too large');
  });

  test(`${name}: binary frames, and text that is half a letter`, async (t) => {
    const { socket } = await entered(t);
    for (const bytes of [Buffer.alloc(0), Buffer.from([0, 1, 2, 255]), Buffer.from(JSON.stringify(ping)), Buffer.alloc(100_000)]) {
      await refuses(socket, bytes, { binary: true }, `${bytes.length} bytes`);
    }
    const half = Buffer.from('{"type":"ping","x":"Zo\u00eb"}').subarray(0, -3);
    for (const bytes of [half, Buffer.from([0xff, 0xfe]), Buffer.from([0xed, 0xa0, 0x80]), Buffer.concat([Buffer.from('{"x":"'), Buffer.from([0xc3]), Buffer.from('"}')])]) {
      await refuses(socket, bytes, { binary: false }, `text ${bytes.toString('hex')}`);
    }
  });

  test(`${name}: fragments are one frame, and an answer to a ping comes in between`, async (t) => {
    const { socket } = await entered(t);
    const text = JSON.stringify(ping);
    const ponged = new Promise((resolve) => socket.ws.once('pong', resolve));
    socket.send(text.slice(0, 4), { fin: false });
    socket.ws.ping();
    await ponged;
    socket.send(text.slice(4), { fin: true });
    await socket.frames.next(pong);
    assert.deepEqual(socket.frames.entries.filter(({ frame }) => error(frame)), []);
  });

  test(`${name}: a flood is answered, and who goes on is cut`, async (t) => {
    const server = await start(t, dialect, 5);
    const bystander = await openPlain(server, path.replace('test-client', 'bystander'));
    await enter(bystander);
    const socket = await openPlain(server, path);
    await enter(socket);
    for (let n = 0; n < 500; n += 1) socket.send(ping);
    await socket.end();
    assert.ok(socket.frames.entries.some(({ frame }) => /rate|slow down/i.test(JSON.stringify(frame))), socket.frames.summary());
    bystander.send(ping);
    await bystander.frames.next(pong);
  });
}

test('ids of one system or organization mean nothing in another', async (t) => {
  const server = await startServer(t, { example: 'dexter' });
  const dexter = await visit(server, token({ sub: 'ann' }));
  const [own] = (await server.get('/connections?user_id=ann')).body.connections;
  assert.equal(own.organization_id, 'dexter');

  // Another organization on the same server, with a user of the same name.
  const other = await openPlain(server, '/ws');
  other.send({ event: 'authenticate', data: { user_id: 'ann', organization_id: 'acme' } });
  await other.frames.next('authenticate:ack');
  for (const target of [{ socket_ids: [own.socket_id] }, { user_ids: ['ann'] }, { rooms: [own.socket_id] }, { rooms: ['user:dexter:ann'] }]) {
    const body = { event: 'announcement', data: { message: 'astray' }, target: { organization_id: 'acme', ...target } };
    const { status, body: answer } = await server.publish('/broadcast', body);
    assert.ok(status >= 400 || answer.recipients_count <= 1, `${JSON.stringify(target)}: ${status}`);
  }
  // A client id is a name, and neither a path nor a pattern.
  for (const id of ['..%2F..%2Fconnections', '%00', '*', `${dexter.clientId}%20`, own.socket_id]) {
    const { status } = await request(`${server.url}/notify/${id}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"title":"astray"}',
    });
    assert.ok(status < 500, `${id}: ${status}`);
  }
  await intake(server, '/broadcast/last', {});
  await dexter.frames.next('last');
  assert.deepEqual(dexter.frames.entries.filter(({ frame }) => JSON.stringify(frame).includes('astray')), []);
});

test('a token of one organization does not open the door of another', async (t) => {
  const server = await startServer(t, { example: 'gym' });
  const socket = await openPlain(server, `/ws/checkins/?token=${token({ user_id: 1, organization_id: 'another-gym' })}`);
  assert.equal((await socket.frames.next('auth_response')).payload.success, false);
  assert.equal(await socket.end(), 4001);
});

test('what is not a door is not upgraded', async (t) => {
  const server = await startServer(t, { example: 'intraday' });
  for (const path of ['/', '/wsx', '/ws/checkins/', '/ws/client_1', '/events/ws', '/production']) {
    const status = await refusal(server, path);
    assert.ok(status >= 400, `${path}: ${status}`);
  }
});
