import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labelOf, phases, rowsOf, type PlanNode, type Totals } from '../../src/promql/plan.ts';

const node = (start: number, end: number, children: PlanNode[] = [], how = 'streamed'): PlanNode => ({
  what: 'function', text: '', start, end, how, steps: 1, seconds: 0, ownSeconds: 0, seriesIn: 0, seriesOut: 0, samples: 0, bytes: 0, children,
});

test('a node shows its own part of the query', () => {
  const expr = 'sum by (a) (rate(x[5m]) * 2)';
  const selector = node(17, 22);
  const rate = node(12, 23, [selector]);
  const two = node(26, 27, [], 'constant');
  const times = node(12, 27, [rate, two]);
  const sum = node(0, 28, [times]);
  assert.deepEqual(rowsOf(sum).map((r) => labelOf(r.node, expr)), ['sum by (a) (…)', '… * 2', 'rate(…)', 'x[5m]']);
  assert.deepEqual(rowsOf(sum).map((r) => [r.path, r.depth]), [['', 0], ['0', 1], ['0.0', 2], ['0.0.0', 3]]);
});

test('places are bytes, not characters', () => {
  const expr = '{"temp.ä"} + y';
  assert.equal(labelOf(node(0, 15, [node(0, 11), node(14, 15)]), expr), '… + …');
  assert.equal(labelOf(node(14, 15), expr), 'y');
  assert.equal(labelOf({ ...node(3, 99), text: 'kept' }, expr), 'kept', 'a place that is not in the text');
});

test('phases are the whole time, none of it below nothing', () => {
  const t: Totals = { series: 0, samples: 0, bytes: 0, chunks: 0, headSamples: 0, rollupSamples: 0, rolledSamples: 0, files: 0, filesPrunedByTime: 0, filesPrunedByIndex: 0, peakBytes: 0, threads: 1, parseSeconds: 1, queueSeconds: 2, prepareSeconds: 3, evalSeconds: 10, sortSeconds: 1, serialiseSeconds: 4 };
  assert.equal(phases(t).reduce((s, p) => s + p.seconds, 0), 17);
  assert.equal(phases({ ...t, evalSeconds: 0 }).find((p) => p.key === 'eval')?.seconds, 0);
});
