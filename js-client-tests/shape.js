// Golden wire shapes: ../tests/wire/<name>.json, the same files that judge the server's own tests.
//
// A golden value stands for itself, except that a string in angle brackets
// stands for a kind of value, `<a|b>` for one of several strings, and a list of
// one shape and `<more>` for any number of that shape. A key that ends in `?`
// may be absent. Any other key must be there, and no further one may.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ISO, POSITION } from './payloads.js';

/** Asserts that the value has the shape of `tests/wire/<name>.json`. */
export function assertShape(name, value) {
  const golden = JSON.parse(readFileSync(new URL(`../tests/wire/${name}.json`, import.meta.url), 'utf8'));
  const faults = [...compare(golden, value, name)];
  assert.deepEqual(faults, [], `${faults.join('\n')}\nin ${JSON.stringify(value, null, 2)}`);
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value) => Number.isInteger(value) && value >= 0;

const kinds = {
  any: () => true,
  string: (value) => typeof value === 'string' && value !== '',
  text: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  number: (value) => typeof value === 'number',
  integer: isCount,
  object: isObject,
  array: Array.isArray,
  timestamp: (value) => typeof value === 'string' && ISO.test(value),
  position: (value) => typeof value === 'string' && POSITION.test(value),
  counts: (value) => isObject(value) && Object.values(value).every(isCount),
};

function is(value, kind) {
  if (kind.includes('|')) return kind.split('|').includes(value);
  assert.ok(Object.hasOwn(kinds, kind), `a golden file names the unknown kind <${kind}>`);
  return kinds[kind](value);
}

/** Everything in which the value differs from the golden one. */
function* compare(golden, value, at) {
  const kind = typeof golden === 'string' && /^<(.*)>$/.exec(golden)?.[1];
  if (kind) {
    if (!is(value, kind)) yield `${at} should be ${golden}, but is ${JSON.stringify(value)}`;
  } else if (isObject(golden) && isObject(value)) {
    yield* compareFields(golden, value, at);
  } else if (Array.isArray(golden) && Array.isArray(value)) {
    yield* compareItems(golden, value, at);
  } else if (golden !== value) {
    yield `${at} should be ${JSON.stringify(golden)}, but is ${JSON.stringify(value)}`;
  }
}

function* compareFields(golden, value, at) {
  for (const [key, expected] of Object.entries(golden)) {
    const name = key.replace(/\?$/, '');
    if (Object.hasOwn(value, name)) yield* compare(expected, value[name], `${at}.${name}`);
    else if (name === key) yield `${at}.${name} is missing`;
  }
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(golden, key) && !Object.hasOwn(golden, `${key}?`)) yield `${at}.${key} should not be there`;
  }
}

function* compareItems(golden, items, at) {
  const expected = golden.length === 2 && golden[1] === '<more>' ? items.map(() => golden[0]) : golden;
  if (expected.length !== items.length) yield `${at} should have ${expected.length} items, but is ${JSON.stringify(items)}`;
  else for (const [place, item] of items.entries()) yield* compare(expected[place], item, `${at}[${place}]`);
}
