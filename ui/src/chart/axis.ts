/** Axis marks: times in 24-hour form in the chosen zone, values in their unit. Pure. */
import { formatValue, type Unit } from '../format.ts';
import { clockOf, DAY, HOUR, MINUTE, SECOND } from '../state/time.ts';

const two = (n: number) => String(n).padStart(2, '0');
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Labels for the marks of a time axis (Unix seconds, `step` seconds apart); if `dated`, the date stands under the first mark of a day. */
export function timeMarks(splits: readonly number[], step: number, utc: boolean, dated: boolean): string[] {
  let day = -1;
  return splits.map((s) => {
    const c = clockOf(s * 1000, utc);
    const date = `${MONTHS[c.mo]} ${c.d}`;
    const stamp = c.y * 400 + c.mo * 32 + c.d;
    const fresh = stamp !== day;
    day = stamp;
    if (step * SECOND >= DAY) return step * SECOND >= 300 * DAY ? String(c.y) : date;
    let text = `${two(c.h)}:${two(c.mi)}`;
    if (step * SECOND < MINUTE) text += `:${two(c.s)}`;
    if (step < 1) text += `.${String(c.ms).padStart(3, '0')}`;
    return fresh && dated ? `${text}\n${date}` : text;
  });
}

/** Whether two instants (Unix ms) fall on one calendar day. */
export function sameDay(a: number, b: number, utc: boolean): boolean {
  const x = clockOf(a, utc);
  const y = clockOf(b, utc);
  return x.d === y.d && x.mo === y.mo && x.y === y.y;
}

/** Distances between time marks that people can count with, in seconds. */
export const TIME_STEPS: number[] = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  ...[1, 2, 3, 4, 6, 12].map((h) => (h * HOUR) / SECOND),
  ...[1, 2, 4, 7, 14, 30, 61, 91, 182, 365, 730, 1825, 3650].map((d) => (d * DAY) / SECOND),
];

/** Marks of a time axis, set on round local (or UTC) times. */
export function timeSplits(min: number, max: number, step: number, utc: boolean): number[] {
  const offset = utc ? 0 : -new Date(min * 1000).getTimezoneOffset() * 60;
  const out: number[] = [];
  const first = Math.ceil((min + offset) / step) * step - offset;
  for (let i = 0; i < 100; i += 1) {
    const s = first + i * step;
    if (s > max) break;
    out.push(Math.round(s * 1000) / 1000);
  }
  return out;
}

const BINARY: number[] = Array.from({ length: 61 }, (_, i) => 2 ** i);
const DECIMAL: number[] = [];
for (let e = -12; e <= 18; e += 1) for (const m of [1, 2, 2.5, 5]) DECIMAL.push(Number(`${m}e${e}`));
const CLOCK = [...DECIMAL.filter((x) => x < 20), 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

/** Distances between value marks that suit the unit. */
export function valueSteps(unit: Unit): number[] {
  return unit === 'bytes' || unit === 'bytes/s' ? BINARY : unit === 'seconds' ? CLOCK : DECIMAL;
}

/** Labels of value marks: as many digits as it takes to tell neighbours apart. */
export function valueMarks(splits: readonly (number | null)[], unit: Unit): string[] {
  return splits.map((v) => (v === null ? '' : formatValue(v, unit)));
}

/** The range of the value axis for data between lo and hi. Starts at zero unless the data lies far from it. */
export function valueRange(lo: number | null, hi: number | null, floor: number | null, ceil: number | null): [number, number] {
  let a = lo ?? 0;
  let b = hi ?? 1;
  if (!Number.isFinite(a) || !Number.isFinite(b)) [a, b] = [0, 1];
  if (a >= 0 && a < b * 0.65) a = 0;
  if (b <= 0 && b > a * 0.65) b = 0;
  if (floor !== null) a = Math.min(a, floor);
  if (ceil !== null) b = Math.max(b, ceil);
  if (a === b) {
    const pad = a === 0 ? 1 : Math.abs(a) * 0.1;
    return a >= 0 ? [Math.max(0, a - pad), b + pad] : [a - pad, Math.min(0, b + pad) || b + pad];
  }
  const pad = (b - a) * 0.08;
  return [a === 0 || (floor !== null && a === floor) ? a : a - pad, b === 0 || (ceil !== null && b === ceil && (hi ?? 0) <= ceil) ? b : b + pad];
}
