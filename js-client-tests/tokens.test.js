// Tokens that an implementation of its own (jose) signs, with keys in PEM, in a set of a file and at a URL.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { SignJWT, exportJWK, exportSPKI, generateKeyPair } from 'jose';
import { startServer } from './harness.js';
import { EXAMPLE_SECRET, openPlain } from './plain.js';

const PUBLIC = ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA'];
const SECRET = ['HS256', 'HS384', 'HS512'];

/** A key pair for each algorithm, with the name of the algorithm as its `kid`. */
const pairs = new Map(
  await Promise.all(PUBLIC.map(async (alg) => [alg, await generateKeyPair(alg, { extractable: true })])),
);
const keys = () =>
  Promise.all([...pairs].map(async ([alg, { publicKey }]) => ({ ...(await exportJWK(publicKey)), kid: alg, alg, use: 'sig' })));

const bytes = new TextEncoder().encode(EXAMPLE_SECRET);
const sign = (alg, { kid, key = pairs.get(alg)?.privateKey ?? bytes, lifetime = '1h' } = {}) =>
  new SignJWT({ name: 'Ann' }).setProtectedHeader({ alg, kid, typ: 'JWT' }).setSubject('ann').setIssuedAt().setExpirationTime(lifetime).sign(key);

const start = (t, jwt) =>
  startServer(t, {
    config: {
      auth: { jwt },
      doors: { gym: { enabled: true, organization: 'av-gym', identity: 'token' } },
    },
  });

/** What AV-Gym's door says to a token. */
async function told(server, token) {
  const socket = await openPlain(server, `/ws/checkins?token=${token}`);
  const { payload } = await socket.frames.next('auth_response');
  socket.disconnect();
  return payload;
}

async function holds(server, token, why) {
  const payload = await told(server, token);
  assert.equal(payload.success, true, `${why}: ${JSON.stringify(payload)}`);
}

async function folder(t) {
  const made = await mkdtemp(path.join(tmpdir(), 'tiercast-keys-'));
  t.after(() => rm(made, { recursive: true }));
  return made;
}

/** A service with the public keys; `asked` counts how often they are read. */
async function keyService(t) {
  const service = { asked: 0 };
  const server = http.createServer(async (_, response) => {
    service.asked += 1;
    response.setHeader('content-type', 'application/jwk-set+json').end(JSON.stringify({ keys: await keys() }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  service.url = `http://127.0.0.1:${server.address().port}/.well-known/jwks.json`;
  return service;
}

test('tokens of every algorithm hold with the keys of a URL, and a secret beside them', async (t) => {
  const service = await keyService(t);
  const server = await start(t, { algorithms: [...SECRET, ...PUBLIC], jwks_url: service.url, secret: EXAMPLE_SECRET });
  for (const alg of PUBLIC) {
    await holds(server, await sign(alg, { kid: alg }), alg);
    await holds(server, await sign(alg), `${alg} without a kid`);
  }
  for (const alg of SECRET) await holds(server, await sign(alg), alg);
  assert.equal(service.asked, 1);
});

test('tokens of every algorithm hold with the keys of files', async (t) => {
  const at = await folder(t);
  const [pem, set] = [path.join(at, 'keys.pem'), path.join(at, 'keys.json')];
  const pems = await Promise.all([...pairs.values()].map(({ publicKey }) => exportSPKI(publicKey)));
  await writeFile(pem, pems.join(''));
  await writeFile(set, JSON.stringify({ keys: await keys() }));
  for (const source of [{ public_key_file: pem }, { jwks_file: set }]) {
    const server = await start(t, { algorithms: PUBLIC, ...source });
    for (const alg of PUBLIC) await holds(server, await sign(alg), `${alg} by ${Object.keys(source)}`);
  }
});

test('tokens of a stranger, of another time or of another algorithm do not hold', async (t) => {
  const service = await keyService(t);
  const server = await start(t, { algorithms: PUBLIC.filter((alg) => alg !== 'RS512'), jwks_url: service.url });
  for (const alg of PUBLIC) {
    const { privateKey } = await generateKeyPair(alg);
    assert.equal((await told(server, await sign(alg, { kid: alg, key: privateKey }))).success, false, `${alg} of a stranger`);
    assert.equal((await told(server, await sign(alg, { kid: alg, lifetime: '-1m' }))).success, false, `${alg}, expired`);
  }
  assert.match((await told(server, await sign('RS512', { kid: 'RS512' }))).message, /algorithm is not accepted/);
  assert.match((await told(server, await sign('PS256', { kid: 'PS256', lifetime: '-1m' }))).message, /expired/);
  // The public key as a secret, in the form in which everybody has it.
  const spki = new TextEncoder().encode(await exportSPKI(pairs.get('RS256').publicKey));
  assert.match((await told(server, await sign('HS256', { kid: 'RS256', key: spki }))).message, /algorithm is not accepted/);
});
