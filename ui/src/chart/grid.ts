/** Curves with their own times, laid on the common grid of their step. Pure. */
import type { Curve } from '../state/feed.ts';
import type { Column } from './chart.tsx';

/** The grid of all points of the curves, `step` ms apart, with a column for each curve. */
export function onGrid(curves: readonly Pick<Curve, 'at' | 'values'>[], step: number): { at: number[]; columns: Column[] } {
  let lo = Number.POSITIVE_INFINITY;
  let hi = Number.NEGATIVE_INFINITY;
  for (const c of curves) {
    if (c.at.length === 0) continue;
    lo = Math.min(lo, c.at[0] as number);
    hi = Math.max(hi, c.at.at(-1) as number);
  }
  if (hi < lo) return { at: [], columns: curves.map(() => []) };
  const first = Math.round(lo / step);
  const count = Math.min(20_000, Math.round(hi / step) - first + 1);
  const at = Array.from({ length: count }, (_, i) => (first + i) * step);
  // Steps that start off the round grid (an answer aligned to its own start) keep their true times.
  const shift = lo - first * step;
  if (shift !== 0) for (let i = 0; i < count; i += 1) at[i] = (at[i] as number) + shift;
  const columns = curves.map((c) => {
    const column = new Array<number | null>(count).fill(null);
    for (let i = 0; i < c.at.length; i += 1) {
      const row = Math.round(((c.at[i] as number) - lo) / step);
      if (row >= 0 && row < count) column[row] = c.values[i] ?? null;
    }
    return column;
  });
  return { at, columns };
}

export interface Summary {
  last: number | null;
  min: number | null;
  max: number | null;
  avg: number | null;
}

/** Figures of the points there are. */
export function summarize(values: readonly (number | null)[]): Summary {
  let last: number | null = null;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  let n = 0;
  for (const v of values) {
    if (v === null) continue;
    last = v;
    if (v < min) min = v;
    if (v > max) max = v;
    sum += v;
    n += 1;
  }
  return n === 0 ? { last: null, min: null, max: null, avg: null } : { last, min, max, avg: sum / n };
}
