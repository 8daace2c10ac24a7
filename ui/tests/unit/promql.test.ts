import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unitOf } from '../../src/chart/unit.ts';
import { likeness, placeAt, rank, WORD_CANDIDATES } from '../../src/promql/complete.ts';
import { errorSpan, metricsOf, tokenize } from '../../src/promql/tokens.ts';

const kinds = (text: string) => tokenize(text).filter((t) => t.kind !== 'space').map((t) => `${t.kind}:${t.text}`);

test('tokens carry their role', () => {
  assert.deepEqual(kinds('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle",cpu=~"[0-3]"}[5m] offset 1h)) > 0.5'), [
    'aggregation:sum', 'keyword:by', 'open:(', 'label:mode', 'close:)', 'open:(', 'function:rate', 'open:(', 'metric:node_cpu_seconds_total', 'open:{', 'label:mode', 'operator:!=', 'string:"idle"', 'comma:,',
    'label:cpu', 'operator:=~', 'string:"[0-3]"', 'close:}', 'open:[', 'duration:5m', 'close:]', 'keyword:offset', 'duration:1h', 'close:)', 'close:)', 'operator:>', 'number:0.5',
  ]);
});

test('names of functions are metrics where they do not call', () => {
  assert.deepEqual(kinds('rate + sum'), ['metric:rate', 'operator:+', 'metric:sum']);
  assert.deepEqual(kinds('a / on (x) group_left (y) b'), ['metric:a', 'operator:/', 'keyword:on', 'open:(', 'label:x', 'close:)', 'keyword:group_left', 'open:(', 'label:y', 'close:)', 'metric:b']);
  assert.deepEqual(kinds('job:up:sum[1h:5m] @ 1.5e3 # note'), ['metric:job:up:sum', 'open:[', 'duration:1h', 'operator::', 'duration:5m', 'close:]', 'operator:@', 'number:1.5e3', 'comment:# note']);
  assert.deepEqual(kinds('Inf 0x1F'), ['number:Inf', 'number:0x1F']);
});

test('any text splits into tokens that join to it', () => {
  let seed = 7;
  const random = (n: number) => ((seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8) % n;
  const parts = ['sum', ' ', '(', ')', '{', '}', '[', ']', '"', "'", '`', '\\', 'a', '5m', '1', '=', '~', '!', '\n', '#', ',', 'é', '😀', 'by', '\u0000', '.', ':'];
  for (let i = 0; i < 3000; i += 1) {
    const text = Array.from({ length: random(14) }, () => parts[random(parts.length)]).join('');
    const tokens = tokenize(text);
    assert.equal(tokens.map((t) => t.text).join(''), text);
    let at = 0;
    for (const t of tokens) {
      assert.ok(t.end > t.start && t.start === at, JSON.stringify(text));
      at = t.end;
    }
    for (let c = 0; c <= text.length; c += 1) placeAt(text, c);
  }
});

test('long and deep input stays fast enough to type in', () => {
  const text = '('.repeat(20_000) + 'x'.repeat(50_000);
  assert.equal(tokenize(text).at(-1)?.end, text.length);
});

test('errors point at their token', () => {
  assert.deepEqual(errorSpan('1:5: parse error: unexpected', 'sum(foo)'), { start: 4, end: 7 });
  assert.deepEqual(errorSpan('invalid parameter "query": 2:3: parse error: x', 'a +\n  bad'), { start: 6, end: 9 });
  assert.deepEqual(errorSpan('1:7: parse error: unexpected end of input', 'sum(fo'), { start: 5, end: 6 });
  // Columns count bytes: é is two of them.
  assert.deepEqual(errorSpan('1:10: x', '{a="é"} b'), { start: 8, end: 9 });
  assert.equal(errorSpan('query timed out', 'a'), null);
  assert.equal(errorSpan('7:1: x', 'a'), null);
});

const place = (text: string) => {
  const caret = text.indexOf('|');
  return placeAt(text.replace('|', ''), caret);
};

test('the place of the caret', () => {
  assert.deepEqual(place('node|'), { at: 'expression', from: 0, to: 4, typed: 'node' });
  assert.equal(place('rate(|)').at, 'expression');
  assert.equal(place('a + |').at, 'expression');
  assert.deepEqual(place('up{jo|}'), { at: 'label', metric: 'up', braces: true, taken: [], from: 3, to: 5, typed: 'jo' });
  assert.deepEqual(place('up{job="x", |}'), { at: 'label', metric: 'up', braces: true, taken: ['job'], from: 12, to: 12, typed: '' });
  assert.deepEqual(place('up{job="|"}'), { at: 'value', metric: 'up', label: 'job', quoted: true, matchers: [], from: 7, to: 9, typed: '' });
  assert.deepEqual(place('up{a="b",job=~"no|'), { at: 'value', metric: 'up', label: 'job', quoted: true, matchers: ['a="b"'], from: 14, to: 17, typed: 'no' });
  assert.deepEqual(place('up{job=|}'), { at: 'value', metric: 'up', label: 'job', quoted: false, matchers: [], from: 7, to: 7, typed: '' });
  assert.equal(place('up{job="x"|}').at, 'nothing');
  assert.deepEqual(place('sum by (|) (up)'), { at: 'label', metric: 'up', braces: false, taken: [], from: 8, to: 8, typed: '' });
  assert.equal(place('rate(up[|])').at, 'duration');
  assert.equal(place('up offset |').at, 'duration');
  assert.equal(place('up # no|').at, 'nothing');
  assert.equal(place('12|').at, 'nothing');
});

test('the likeliest candidate comes first', () => {
  const best = (typed: string) => rank(WORD_CANDIDATES, typed)[0]?.label;
  assert.equal(best('rat'), 'rate');
  assert.equal(best('sum'), 'sum');
  assert.equal(best('hist_q'), 'histogram_quantile');
  assert.equal(best('hq'), 'histogram_quantile');
  assert.ok(likeness('node_memory_MemAvailable_bytes', 'memav') > 0);
  assert.ok(likeness('node_cpu', 'node') > likeness('my_node_cpu', 'node'));
  assert.equal(likeness('up', 'xyz'), 0);
});

test('metrics and units of a query', () => {
  assert.deepEqual(metricsOf('a{b="c"} + rate(d[5m]) + a'), ['a', 'd']);
  for (const [expr, unit] of [
    ['node_memory_MemFree_bytes', 'bytes'], ['rate(node_network_receive_bytes_total[5m])', 'bytes/s'], ['sum(rate(node_cpu_seconds_total[1m]))', 'percent'],
    ['histogram_quantile(0.9, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))', 'seconds'], ['rate(http_requests_total[5m])', 'per_s'], ['count(node_memory_MemFree_bytes)', 'short'],
    ['a_bytes / b_bytes', 'short'], ['process_start_time_seconds', 'short'], ['up', 'short'], ['1', 'short'], ['increase(x_bytes_total[1h])', 'bytes'], ['cache_hit_ratio', 'percent'],
  ] as const) assert.equal(unitOf(expr), unit, expr);
});
