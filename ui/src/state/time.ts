/**
 * Time ranges: what a person types, what the URL carries, and what a chart shows.
 * Pure functions; the current time and the zone come in as arguments.
 */

/** A window that slides with the clock (span in ms), or one that stands still (Unix ms). */
export type Range = { live: true; span: number } | { live: false; from: number; to: number };

export type Parsed = { ok: true; range: Range } | { ok: false; why: string };

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
const YEAR = 365 * DAY;
/** Windows below this show nothing useful; wider ones are a typing mistake. */
export const SPAN_MIN = 5 * SECOND;
export const SPAN_MAX = 20 * YEAR;

const UNITS: Record<string, number> = {
  ms: 1,
  s: SECOND, sec: SECOND, secs: SECOND, second: SECOND, seconds: SECOND,
  m: MINUTE, min: MINUTE, mins: MINUTE, minute: MINUTE, minutes: MINUTE,
  h: HOUR, hr: HOUR, hrs: HOUR, hour: HOUR, hours: HOUR,
  d: DAY, day: DAY, days: DAY,
  w: 7 * DAY, week: 7 * DAY, weeks: 7 * DAY,
  month: 30 * DAY, months: 30 * DAY,
  y: YEAR, year: YEAR, years: YEAR,
};

/** `15m`, `1h30m`, `2 hours`, `1.5h`, `hour` to ms; null when it is none of these. */
export function parseSpan(text: string): number | null {
  const t = text.trim().toLowerCase();
  if (t in UNITS && /^[a-z]{3,}$/.test(t)) return UNITS[t] ?? null;
  if (!/^(\d+(\.\d+)?\s*[a-z]+\s*)+$/.test(t)) return null;
  let ms = 0;
  for (const [, n, unit] of t.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)/g)) {
    const size = UNITS[unit ?? ''];
    if (size === undefined) return null;
    ms += Number(n) * size;
  }
  return ms;
}

/** ms to the shortest exact form that parseSpan reads back: `15m`, `1h30m`, `7d`. */
export function formatSpan(ms: number): string {
  let rest = Math.round(ms);
  if (rest <= 0) return '0s';
  let out = '';
  for (const [unit, size] of [['d', DAY], ['h', HOUR], ['m', MINUTE], ['s', SECOND], ['ms', 1]] as const) {
    const n = Math.floor(rest / size);
    if (n > 0) out += `${n}${unit}`;
    rest -= n * size;
  }
  return out;
}

interface Clock {
  y: number; mo: number; d: number; h: number; mi: number; s: number; ms: number;
}

function at(c: Clock, utc: boolean): number {
  return utc
    ? Date.UTC(c.y, c.mo, c.d, c.h, c.mi, c.s, c.ms)
    : new Date(c.y, c.mo, c.d, c.h, c.mi, c.s, c.ms).getTime();
}

/** The calendar fields of an instant in UTC or in the zone of this machine. */
export function clockOf(ms: number, utc: boolean): Clock {
  const x = new Date(ms);
  return utc
    ? { y: x.getUTCFullYear(), mo: x.getUTCMonth(), d: x.getUTCDate(), h: x.getUTCHours(), mi: x.getUTCMinutes(), s: x.getUTCSeconds(), ms: x.getUTCMilliseconds() }
    : { y: x.getFullYear(), mo: x.getMonth(), d: x.getDate(), h: x.getHours(), mi: x.getMinutes(), s: x.getSeconds(), ms: x.getMilliseconds() };
}

function midnight(now: number, utc: boolean, days = 0): number {
  const c = clockOf(now, utc);
  return at({ ...c, d: c.d + days, h: 0, mi: 0, s: 0, ms: 0 }, utc);
}

/** The named days, as [start, end) relative to now. */
function namedDay(t: string, now: number, utc: boolean): [number, number] | null {
  if (t === 'today') return [midnight(now, utc), now];
  if (t === 'yesterday') return [midnight(now, utc, -1), midnight(now, utc)];
  return null;
}

/** One point in time. `day` is the date that a bare `14:00` belongs to. `whole` says that only a date was given. */
function parsePoint(text: string, now: number, utc: boolean, day: number): { ms: number; whole: number } | null {
  const t = text.trim();
  const low = t.toLowerCase();
  if (low === 'now') return { ms: now, whole: 0 };
  const offset = /^(?:now\s*)?-\s*(.+)$/.exec(low) ?? /^(.+) ago$/.exec(low);
  if (offset) {
    const span = parseSpan(offset[1] ?? '');
    return span === null ? null : { ms: now - span, whole: 0 };
  }
  if (/^\d{10}(\.\d+)?$/.test(t)) return { ms: Math.round(Number(t) * 1000), whole: 0 };
  if (/^\d{13}$/.test(t)) return { ms: Number(t), whole: 0 };
  const named = /^(today|yesterday)(?:\s+(.+))?$/.exec(low);
  if (named) {
    const start = midnight(now, utc, named[1] === 'yesterday' ? -1 : 0);
    if (named[2] === undefined) return { ms: start, whole: DAY };
    return parsePoint(named[2], now, utc, start);
  }
  const m = /^(?:(\d{4})-(\d{1,2})-(\d{1,2}))?(?:(?:^|[T\s]\s*)(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?)?\s*(Z|utc)?$/i.exec(t);
  if (!m || t === '' || (m[1] === undefined && m[4] === undefined)) return null;
  const zone = utc || m[8] !== undefined;
  const base = clockOf(day, zone);
  const c: Clock = {
    y: m[1] ? Number(m[1]) : base.y,
    mo: m[2] ? Number(m[2]) - 1 : base.mo,
    d: m[3] ? Number(m[3]) : base.d,
    h: Number(m[4] ?? 0),
    mi: Number(m[5] ?? 0),
    s: Number(m[6] ?? 0),
    ms: m[7] ? Number(m[7].padEnd(3, '0')) : 0,
  };
  const days = new Date(Date.UTC(c.y, c.mo + 1, 0)).getUTCDate();
  if (c.mo > 11 || c.mo < 0 || c.d < 1 || c.d > days || c.h > 24 || (c.h === 24 && c.mi + c.s > 0) || c.mi > 59 || c.s > 59) return null;
  return { ms: at(c, zone), whole: m[4] === undefined ? DAY : 0 };
}

const EXAMPLES = 'try 15m, last 2h, yesterday, or 2026-11-20 14:00..15:00';

function still(from: number, to: number): Parsed {
  if (to <= from) return { ok: false, why: 'the end is not after the start' };
  if (to - from < SPAN_MIN) return { ok: false, why: `at least ${formatSpan(SPAN_MIN)} wide, please` };
  if (to - from > SPAN_MAX) return { ok: false, why: 'at most 20 years wide, please' };
  return { ok: true, range: { live: false, from: Math.round(from), to: Math.round(to) } };
}

/**
 * What a person typed, to a range. A length alone (`15m`, `last 2h`) slides with the clock;
 * everything with a fixed end (`yesterday`, `a..b`) stands still.
 */
export function parseRange(text: string, now: number, utc: boolean): Parsed {
  const t = text.trim().replace(/\s+/g, ' ');
  if (t === '') return { ok: false, why: EXAMPLES };
  const low = t.toLowerCase();

  // Before lengths: "last week" names the calendar week, as "yesterday" names the day.
  if (low === 'this week' || low === 'last week') {
    const today = midnight(now, utc);
    const weekday = ((utc ? new Date(today).getUTCDay() : new Date(today).getDay()) + 6) % 7;
    const monday = midnight(now, utc, -weekday);
    return low === 'this week' ? still(monday, Math.max(now, monday + MINUTE)) : still(midnight(now, utc, -weekday - 7), monday);
  }
  const span = parseSpan(low.replace(/^(the )?(last|past|previous) /, '').replace(/^now ?- ?/, '').replace(/^- ?/, ''));
  if (span !== null) {
    if (span < SPAN_MIN) return { ok: false, why: `at least ${formatSpan(SPAN_MIN)} wide, please` };
    if (span > SPAN_MAX) return { ok: false, why: 'at most 20 years wide, please' };
    return { ok: true, range: { live: true, span } };
  }
  const named = namedDay(low, now, utc);
  if (named) return still(named[0], Math.max(named[1], named[0] + MINUTE));
  const around = /^(.+?) ?(?:±|\+-|\+\/-) ?(.+)$/.exec(t);
  if (around) {
    const point = parsePoint(around[1] ?? '', now, utc, now);
    const half = parseSpan(around[2] ?? '');
    if (point && half !== null) return still(point.ms - half, point.ms + half);
  }
  const parts = t.split(/\s*(?:\.\.+|…|→)\s*|\s+(?:to|until|-|–)\s+/i);
  if (parts.length === 2) {
    const [a, b] = parts as [string, string];
    const from = parsePoint(a, now, utc, now);
    if (!from) return { ok: false, why: `cannot read the start "${a.slice(0, 30)}"; ${EXAMPLES}` };
    const length = /^\+/.test(b) ? parseSpan(b.slice(1)) : null;
    if (length !== null) return still(from.ms, from.ms + length);
    const to = parsePoint(b, now, utc, from.ms);
    if (!to) return { ok: false, why: `cannot read the end "${b.slice(0, 30)}"; ${EXAMPLES}` };
    let end = to.ms + to.whole;
    // `22:00..02:00` runs past midnight.
    if (end <= from.ms && /^\d{1,2}:/.test(b)) end += DAY;
    return still(from.ms, end);
  }
  const point = parsePoint(t, now, utc, now);
  if (point) return point.whole > 0 ? still(point.ms, nextMidnight(point.ms, utc)) : still(point.ms - 15 * MINUTE, point.ms + 15 * MINUTE);
  return { ok: false, why: EXAMPLES };
}

function nextMidnight(ms: number, utc: boolean): number {
  return midnight(ms, utc, 1);
}

/** The form in the URL: `15m`, or two instants in UTC, so that a link means the same for everyone. */
export function encodeRange(range: Range): string {
  if (range.live) return formatSpan(range.span);
  const iso = (ms: number) => new Date(ms).toISOString().replace('.000Z', 'Z');
  return `${iso(range.from)}..${iso(range.to)}`;
}

/** Reads what encodeRange wrote; null for anything else. */
export function decodeRange(text: string | null): Range | null {
  if (!text) return null;
  const span = parseSpan(text);
  if (span !== null) return span >= SPAN_MIN && span <= SPAN_MAX ? { live: true, span } : null;
  const [a, b, more] = text.split('..');
  if (a === undefined || b === undefined || more !== undefined) return null;
  const from = Date.parse(a);
  const to = Date.parse(b);
  if (!Number.isFinite(from) || !Number.isFinite(to) || to - from < SPAN_MIN || to - from > SPAN_MAX) return null;
  return { live: false, from, to };
}

const two = (n: number) => String(n).padStart(2, '0');

/** `2026-11-20 14:00`, with seconds and milliseconds only where they are not zero (or asked for). */
export function formatPoint(ms: number, utc: boolean, seconds = false): string {
  const c = clockOf(ms, utc);
  let out = `${c.y}-${two(c.mo + 1)}-${two(c.d)} ${two(c.h)}:${two(c.mi)}`;
  if (seconds || c.s || c.ms) out += `:${two(c.s)}`;
  if (c.ms) out += `.${String(c.ms).padStart(3, '0')}`;
  return out;
}

/** `14:03:20`. */
export function formatClock(ms: number, utc: boolean): string {
  const c = clockOf(ms, utc);
  return `${two(c.h)}:${two(c.mi)}:${two(c.s)}`;
}

/** What the time box shows; parseRange reads it back to the same range. */
export function formatRange(range: Range, utc: boolean): string {
  if (range.live) return `last ${formatSpan(range.span)}`;
  const a = clockOf(range.from, utc);
  const b = clockOf(range.to, utc);
  const from = formatPoint(range.from, utc);
  const to = formatPoint(range.to, utc);
  return a.y === b.y && a.mo === b.mo && a.d === b.d ? `${from}..${to.slice(11)}` : `${from}..${to}`;
}

/** The window in Unix ms at the given time. */
export function windowOf(range: Range, now: number): { from: number; to: number } {
  return range.live ? { from: now - range.span, to: now } : { from: range.from, to: range.to };
}

const STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

/** A round step (ms) that gives at most `points` points over the span. */
export function stepFor(spanMs: number, points: number): number {
  const want = spanMs / points / 1000;
  for (const s of STEPS) if (s >= want) return s * 1000;
  return Math.ceil(want / 86400) * DAY;
}
