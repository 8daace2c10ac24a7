import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onGrid, summarize } from '../../src/chart/grid.ts';
import { distinguishing, formatAge, formatCount, formatExact, formatSeries, formatUptime, formatValue, quote, seriesKey } from '../../src/format.ts';

test('values in their unit', () => {
  for (const [v, unit, text] of [
    [0, 'short', '0'], [1234, 'short', '1.23k'], [999.6, 'short', '1k'], [0.1 + 0.2, 'short', '0.3'], [-42.5, 'short', '−42.5'], [1e-9, 'short', '1.00e-9'],
    [1024, 'bytes', '1 KiB'], [1.5 * 2 ** 30, 'bytes', '1.5 GiB'], [1023.9, 'bytes', '1 KiB'], [0, 'bytes/s', '0 B/s'], [0.3725, 'percent', '37.3 %'], [0.000807, 'percent', '0.08 %'],
    [0.0042, 'seconds', '4.2 ms'], [90, 'seconds', '90 s'], [7200, 'seconds', '2 h'], [12.5, 'per_s', '12.5/s'], [null, 'short', '–'], [Number.NaN, 'short', 'NaN'], [Infinity, 'bytes', '+Inf'],
  ] as const) assert.equal(formatValue(v, unit), text, `${v} ${unit}`);
  assert.equal(formatExact(-Infinity), '-Inf');
  assert.equal(formatCount(1234567), '1\u202f234\u202f567');
});

test('ages and uptimes', () => {
  assert.equal(formatAge(-500), 'just now');
  assert.equal(formatAge(3200), '3 s ago');
  assert.equal(formatAge(61_000), '1 min ago');
  assert.equal(formatUptime(93 * 60_000), '1h 33m');
  assert.equal(formatUptime(50 * 3_600_000), '2d 2h');
});

test('series as PromQL writes them', () => {
  assert.equal(formatSeries({ __name__: 'up' }), 'up');
  assert.equal(formatSeries({ __name__: 'up', a: 'x"y\\z\n' }), 'up{a="x\\"y\\\\z\\n"}');
  assert.equal(formatSeries({ 'ü.b': '1' }), '{"ü.b"="1"}');
  assert.equal(formatSeries({}), '{}');
  assert.equal(quote('a'), '"a"');
  assert.equal(seriesKey({ a: '1', b: '2' }), seriesKey({ b: '2', a: '1' }));
  assert.deepEqual(distinguishing([{ a: '1', b: 'x' }, { a: '1', b: 'y' }, { a: '1', b: 'y', c: 'z' }]).sort(), ['b', 'c']);
});

test('curves fall on one grid, with gaps', () => {
  const g = onGrid([{ at: [1000, 2000, 4000], values: [1, 2, 4] }, { at: [3000], values: [9] }], 1000);
  assert.deepEqual(g.at, [1000, 2000, 3000, 4000]);
  assert.deepEqual(g.columns, [[1, 2, null, 4], [null, null, 9, null]]);
  // An answer aligned to its own start keeps its times.
  assert.deepEqual(onGrid([{ at: [1300, 2300], values: [1, 2] }], 1000).at, [1300, 2300]);
  assert.deepEqual(onGrid([], 1000), { at: [], columns: [] });
  assert.deepEqual(summarize([null, 2, 4, null]), { last: 4, min: 2, max: 4, avg: 3 });
});
