import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timeMarks, timeSplits, valueRange } from '../../src/chart/axis.ts';
import { DAY, decodeRange, encodeRange, formatRange, formatSpan, HOUR, MINUTE, parseRange, parseSpan, SECOND, stepFor, windowOf, type Range } from '../../src/state/time.ts';

// 2026-11-21 10:30:00 UTC, 11:30 in Berlin, a Saturday.
const NOW = Date.UTC(2026, 10, 21, 10, 30);

function ok(text: string, utc = true): Range {
  const p = parseRange(text, NOW, utc);
  assert.ok(p.ok, `${text}: ${p.ok ? '' : p.why}`);
  return p.range;
}

test('lengths slide with the clock', () => {
  for (const [text, span] of [
    ['15m', 15 * MINUTE], ['last 2h', 2 * HOUR], ['past 90 minutes', 90 * MINUTE], ['1h30m', 90 * MINUTE], ['1.5h', 90 * MINUTE], ['last hour', HOUR],
    ['2 days', 2 * DAY], ['now-6h', 6 * HOUR], ['-30s', 30 * SECOND], ['LAST 1W', 7 * DAY],
  ] as const) assert.deepEqual(ok(text), { live: true, span }, text);
});

test('named days stand still', () => {
  assert.deepEqual(ok('today'), { live: false, from: Date.UTC(2026, 10, 21), to: NOW });
  assert.deepEqual(ok('yesterday'), { live: false, from: Date.UTC(2026, 10, 20), to: Date.UTC(2026, 10, 21) });
  assert.deepEqual(ok('this week'), { live: false, from: Date.UTC(2026, 10, 16), to: NOW });
  assert.deepEqual(ok('last week'), { live: false, from: Date.UTC(2026, 10, 9), to: Date.UTC(2026, 10, 16) });
  assert.deepEqual(ok('2026-11-20'), { live: false, from: Date.UTC(2026, 10, 20), to: Date.UTC(2026, 10, 21) });
});

test('local time is the zone of the machine', () => {
  assert.deepEqual(ok('yesterday', false), { live: false, from: Date.UTC(2026, 10, 19, 23), to: Date.UTC(2026, 10, 20, 23) });
  assert.deepEqual(ok('2026-11-20 14:00..15:00', false), { live: false, from: Date.UTC(2026, 10, 20, 13), to: Date.UTC(2026, 10, 20, 14) });
  assert.deepEqual(ok('2026-11-20 14:00Z..15:00Z', false), { live: false, from: Date.UTC(2026, 10, 20, 14), to: Date.UTC(2026, 10, 20, 15) });
  // The day summer time ends has 25 hours.
  const long = ok('2026-10-25', false);
  assert.ok(!long.live && long.to - long.from === 25 * HOUR);
});

test('two points in many spellings', () => {
  const want = { live: false, from: Date.UTC(2026, 10, 20, 14), to: Date.UTC(2026, 10, 20, 15) };
  for (const text of [
    '2026-11-20 14:00..15:00', '2026-11-20T14:00..2026-11-20T15:00', '2026-11-20 14:00 to 15:00', '2026-11-20 14:00 - 15:00', '2026-11-20 14:00 .. +1h', 'yesterday 14:00..15:00',
    '2026-11-20 14:30 ± 30m', '2026-11-20 14:30 +- 30m', '1795183200..1795186800', '1795183200000..1795186800000',
  ]) assert.deepEqual(ok(text), want, text);
  assert.deepEqual(ok('09:00..10:00'), { live: false, from: Date.UTC(2026, 10, 21, 9), to: Date.UTC(2026, 10, 21, 10) });
  assert.deepEqual(ok('2026-11-20 22:00..02:00'), { live: false, from: Date.UTC(2026, 10, 20, 22), to: Date.UTC(2026, 10, 21, 2) });
  assert.deepEqual(ok('2026-11-01..2026-11-03'), { live: false, from: Date.UTC(2026, 10, 1), to: Date.UTC(2026, 10, 4) });
  assert.deepEqual(ok('-2h..-1h'), { live: false, from: NOW - 2 * HOUR, to: NOW - HOUR });
  assert.deepEqual(ok('2026-11-20 14:00'), { live: false, from: Date.UTC(2026, 10, 20, 13, 45), to: Date.UTC(2026, 10, 20, 14, 15) });
});

test('what cannot be read says why', () => {
  for (const [text, why] of [
    ['', /try 15m/], ['nonsense', /try 15m/], ['2026-13-01', /try/], ['2026-02-30 10:00..11:00', /start/], ['2026-11-20 14:00..x', /end "x"/], ['10:00..09:00:00 2026', /end/],
    ['2026-11-20 15:00..2026-11-20 14:00', /not after/], ['1ms', /at least/], ['900y', /at most/], ['99:99..10:00', /start/],
  ] as const) {
    const p = parseRange(text, NOW, true);
    assert.ok(!p.ok, text);
    assert.match(p.why, why, text);
  }
});

test('the box shows what it reads', () => {
  const ranges: Range[] = [
    { live: true, span: 90 * MINUTE }, { live: false, from: NOW - HOUR, to: NOW }, { live: false, from: NOW - 3 * DAY + 1234, to: NOW }, { live: false, from: NOW, to: NOW + 30 * SECOND },
  ];
  for (const r of ranges) for (const utc of [true, false]) {
    const p = parseRange(formatRange(r, utc), NOW, utc);
    assert.deepEqual(p, { ok: true, range: r }, formatRange(r, utc));
  }
});

test('the URL form survives, and nothing else is taken', () => {
  for (const r of [{ live: true, span: 15 * MINUTE }, { live: false, from: NOW, to: NOW + HOUR + 5 }] as Range[]) assert.deepEqual(decodeRange(encodeRange(r)), r);
  assert.equal(encodeRange({ live: false, from: NOW, to: NOW + HOUR }), '2026-11-21T10:30:00Z..2026-11-21T11:30:00Z');
  for (const bad of [null, '', 'x', '1ms', '..', 'a..b', '2026-01-01T00:00:00Z..2025-01-01T00:00:00Z', '1..2..3']) assert.equal(decodeRange(bad), null, String(bad));
});

test('spans', () => {
  assert.equal(parseSpan('fortnight'), null);
  assert.equal(parseSpan('5'), null);
  assert.equal(formatSpan(90 * MINUTE), '1h30m');
  assert.equal(formatSpan(7 * DAY), '7d');
  assert.deepEqual(windowOf({ live: true, span: HOUR }, NOW), { from: NOW - HOUR, to: NOW });
});

test('steps are round and bound the points', () => {
  for (const span of [MINUTE, 15 * MINUTE, HOUR, DAY, 30 * DAY, 900 * DAY]) {
    const step = stepFor(span, 300);
    assert.ok(span / step <= 300, String(span));
    assert.equal(step % SECOND, 0);
  }
  assert.equal(stepFor(15 * MINUTE, 240), 5 * SECOND);
});

test('axis marks stand on round local times', () => {
  const from = Date.UTC(2026, 10, 20, 22, 50) / 1000;
  const splits = timeSplits(from, from + 7200, 1800, false);
  assert.deepEqual(timeMarks(splits, 1800, false, true), ['00:00\nNov 21', '00:30', '01:00', '01:30']);
  assert.deepEqual(timeMarks(timeSplits(from, from + 3600, 1800, true), 1800, true, false), ['23:00', '23:30']);
  assert.deepEqual(timeSplits(from, from + 2 * 86400, 86400, false).map((s) => new Date(s * 1000).getUTCHours()), [23, 23]);
});

test('value ranges start at zero unless the data lies far from it', () => {
  assert.deepEqual(valueRange(0, 10, null, null), [0, 10.8]);
  assert.equal(valueRange(1, 10, null, null)[0], 0);
  assert.ok(valueRange(95, 100, null, null)[0] > 90);
  assert.deepEqual(valueRange(0, 0, null, null), [0, 1]);
  assert.equal(valueRange(0, 0.01, 0, 0.1)[1], 0.1);
  const [lo, hi] = valueRange(null, null, null, null);
  assert.ok(lo < hi);
  for (const [a, b] of [[5, 5], [-5, -5], [-1, 1], [1e300, 1e300]] as const) {
    const [x, y] = valueRange(a, b, null, null);
    assert.ok(x < y && x <= a && y >= b, `${a} ${b}`);
  }
});
