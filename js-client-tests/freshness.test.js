// A channel that falls silent is announced to who listens, and so is its return.

import assert from 'node:assert/strict';
import test from 'node:test';
import { startServer } from './harness.js';
import { kpi } from './payloads.js';

test('a dashboard learns that a figure is frozen, also one that opens later', async (t) => {
  const freshness = [{ channel: 'kpi', expected_interval_ms: 1000 }];
  const server = await startServer(t, { config: { events: { freshness } } });
  const socket = await server.agent('acme');
  await server.reaches(1, '/broadcast/kpi', kpi('acme'));
  const stale = await socket.inbox.next('system:notification');
  assert.deepEqual([stale.stale, stale.channel, stale.scope], [true, 'kpi', { organization_id: 'acme' }]);
  const later = await server.agent('acme');
  const told = await later.inbox.next('system:notification');
  assert.equal(told.stale, true);
  assert.ok(told.age_ms >= stale.age_ms);
  await server.reaches(2, '/broadcast/kpi', kpi('acme'));
  for (const { inbox } of [socket, later]) {
    assert.equal((await inbox.next('system:notification', (notice) => notice.stale === false)).channel, 'kpi');
  }
});
