// Every generation of the official client, on every transport it may use.

import assert from 'node:assert/strict';
import io2 from 'sio2';
import { io as io3 } from 'sio3';
import { io as io4 } from 'socket.io-client';
import { once } from './harness.js';

const polling = { transports: ['polling'] };
const websocket = { transports: ['websocket'] };
const stock = { transports: ['polling', 'websocket'] };

/** `eio` is the version of Engine.IO that a generation speaks. */
export const clients = [
  { name: 'socket.io-client 4.8 on polling', eio: 4, options: { client: io4, ...polling } },
  { name: 'socket.io-client 4.8 on WebSocket', eio: 4, options: { client: io4, ...websocket } },
  { name: 'socket.io-client 4.8 upgrading', eio: 4, options: { client: io4, ...stock }, upgrades: true },
  { name: 'socket.io-client 3.1 on polling', eio: 4, options: { client: io3, ...polling } },
  { name: 'socket.io-client 3.1 on WebSocket', eio: 4, options: { client: io3, ...websocket } },
  { name: 'socket.io-client 3.1 upgrading', eio: 4, options: { client: io3, ...stock }, upgrades: true },
  { name: 'socket.io-client 2.5 on polling', eio: 3, options: { client: io2, ...polling } },
  { name: 'socket.io-client 2.5 on WebSocket', eio: 3, options: { client: io2, ...websocket } },
  { name: 'socket.io-client 2.5 upgrading', eio: 3, options: { client: io2, ...stock }, upgrades: true },
];

/** Resolves when the transport has become a WebSocket; call it before the client is connected. */
export function upgraded(socket) {
  return once(socket.io.engine, 'upgrade');
}

/** Name of the transport in use. */
export function transportOf(socket) {
  return socket.io.engine.transport.name;
}

/** The one payload of a named frame: a position follows it, except for a client of version 2. */
export function payloadOf(socket, { args }) {
  const [payload, position, ...more] = args;
  assert.deepEqual(more, [], 'arguments after the position');
  const isVersion2 = typeof socket.onAny !== 'function';
  assert.equal(typeof position, isVersion2 ? 'undefined' : 'string', 'a position ends every frame');
  return payload;
}
