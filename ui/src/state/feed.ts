/** The answer to one query over a window: pushed while live, asked for once while still. The old answer stays until the new one is there. */
import { useEffect, useMemo, useReducer, useRef } from 'preact/hooks';
import type { Labels } from '../format.ts';
import { seriesKey } from '../format.ts';
import { ApiError, query } from './api.ts';
import { now } from './clock.ts';
import { subscribe, type LiveError, type QueryDelta, type QuerySnapshot, type Sampled } from './live.ts';
import { stepFor, windowOf, type Range } from './time.ts';

export interface Curve {
  key: string;
  labels: Labels;
  /** Unix ms, ascending. */
  at: number[];
  values: (number | null)[];
}

export interface Answer {
  curves: Curve[];
  from: number;
  to: number;
  step: number;
  warnings: string[];
  infos: string[];
  /** Time from asking to having it; null for pushed answers. */
  ms: number | null;
}

export interface FeedState {
  expr: string;
  answer: Answer | null;
  error: string | null;
  /** Since when (performance.now) an answer is awaited; null when none is. */
  since: number | null;
}

/** Live evaluation costs the server something at each step, so steps below this are not asked for. */
const LIVE_STEP_MIN = 5_000;
const LIVE_POINTS = 240;
const STILL_POINTS = 360;

/** The step for a window, ms. */
export function stepOf(range: Range): number {
  return range.live ? Math.max(LIVE_STEP_MIN, stepFor(range.span, LIVE_POINTS)) : stepFor(range.to - range.from, STILL_POINTS);
}

/** A sample as it stands in JSON. */
export function sampled(v: Sampled): number | null {
  if (v === null) return null;
  const n = typeof v === 'number' ? v : v === '+Inf' ? Number.POSITIVE_INFINITY : v === '-Inf' ? Number.NEGATIVE_INFINITY : Number(v);
  // The chart has no place for what is not finite: a gap says so more truly than a line.
  return Number.isFinite(n) ? n : null;
}

class Feed {
  state: FeedState;
  private stopLive: (() => void) | null = null;
  private abort: AbortController | null = null;
  private byKey = new Map<string, Curve>();

  constructor(expr: string, private changed: () => void, private onAnswer: (expr: string) => void) {
    this.state = { expr, answer: null, error: null, since: null };
  }

  start(range: Range): void {
    this.stop();
    this.state = { ...this.state, since: performance.now() };
    if (range.live) this.startLive(range.span, stepOf(range));
    else void this.startStill(range.from, range.to, stepOf(range));
  }

  stop(): void {
    this.stopLive?.();
    this.stopLive = null;
    this.abort?.abort();
    this.abort = null;
  }

  private settle(part: Partial<FeedState>): void {
    this.state = { ...this.state, since: null, ...part };
    this.changed();
    if (part.answer) this.onAnswer(this.state.expr);
  }

  private async startStill(from: number, to: number, step: number): Promise<void> {
    const abort = new AbortController();
    this.abort = abort;
    const start = Math.floor(from / step) * step;
    const end = Math.floor(to / step) * step;
    try {
      const got = await query(
        '/api/v1/query_range',
        { query: this.state.expr, start: String(start / 1000), end: String(end / 1000), step: String(step / 1000) },
        abort.signal,
      );
      const curves = (got.data.result as { metric: Labels; values?: [number, string][] }[]).map((s): Curve => ({
        key: seriesKey(s.metric),
        labels: s.metric,
        at: (s.values ?? []).map(([t]) => Math.round(t * 1000)),
        values: (s.values ?? []).map(([, v]) => sampled(v)),
      }));
      this.settle({ error: null, answer: { curves, from, to, step, warnings: got.warnings, infos: got.infos, ms: got.ms } });
    } catch (e) {
      if (abort.signal.aborted) return;
      this.settle({ error: e instanceof Error ? explain(e) : String(e) });
    }
  }

  private startLive(span: number, step: number): void {
    this.stopLive = subscribe<QuerySnapshot | QueryDelta | LiveError>({ topic: 'query', expr: this.state.expr, range_ms: span, step_ms: step }, (m) => {
      if (m.type === 'error') {
        this.settle({ error: m.error });
      } else if (m.type === 'snapshot') {
        this.byKey.clear();
        const curves = m.series.map((s): Curve => {
          const curve = { key: seriesKey(s.labels), labels: s.labels, at: [...s.at_ms], values: s.values.map(sampled) };
          this.byKey.set(curve.key, curve);
          return curve;
        });
        this.settle({
          error: null,
          answer: { curves, from: m.end_ms - span, to: m.end_ms, step: m.step_ms || step, warnings: m.warnings ?? [], infos: m.infos ?? [], ms: this.state.since === null ? null : performance.now() - this.state.since },
        });
      } else if (this.state.answer) {
        this.append(this.state.answer, m, span);
      }
    });
  }

  private append(old: Answer, m: QueryDelta, span: number): void {
    let curves = old.curves;
    for (const s of m.series) {
      const key = seriesKey(s.labels);
      let curve = this.byKey.get(key);
      if (!curve) {
        curve = { key, labels: s.labels, at: [], values: [] };
        this.byKey.set(key, curve);
        curves = [...curves, curve];
      }
      if ((curve.at.at(-1) ?? 0) >= m.at_ms) continue;
      curve.at.push(m.at_ms);
      curve.values.push(sampled(s.value));
    }
    const from = m.at_ms - span;
    let emptied = false;
    for (const c of curves) {
      let drop = 0;
      while (drop < c.at.length && (c.at[drop] as number) < from) drop += 1;
      if (drop > 0) {
        c.at.splice(0, drop);
        c.values.splice(0, drop);
      }
      emptied ||= c.at.length === 0;
    }
    if (emptied) {
      curves = curves.filter((c) => c.at.length > 0 || !this.byKey.delete(c.key));
    }
    this.settle({ error: null, answer: { ...old, curves, from, to: m.at_ms } });
  }
}

/** An error as a person should read it. */
export function explain(e: Error): string {
  if (!(e instanceof ApiError)) return e.message;
  return e.request ? `${e.message} (request ${e.request})` : e.message;
}

/**
 * Answers for these queries (in order) over the window; asks again when a query, the window or `turn` changes.
 * An empty expression has no answer.
 */
export function useFeeds(exprs: readonly string[], range: Range | null, turn = 0, onAnswer: (expr: string) => void = () => undefined): FeedState[] {
  const [, redraw] = useReducer<number, void>((n) => n + 1, 0);
  const feeds = useRef(new Map<string, Feed>());
  const slots = useRef<(FeedState | null)[]>([]);
  const pending = useRef(0);
  const told = useRef(onAnswer);
  told.current = onAnswer;
  const rangeKey = range === null ? '' : range.live ? `live ${range.span}` : `${range.from} ${range.to}`;
  const want = useMemo(() => [...new Set(exprs.filter((e) => e !== ''))], [exprs.join('\u0000')]);

  const changed = (): void => {
    if (pending.current) return;
    // Many answers of one instant are drawn in one go.
    pending.current = requestAnimationFrame(() => {
      pending.current = 0;
      redraw();
    });
    // Hidden pages get no frames; the state is current when they come back.
  };

  const started = useRef(new Map<string, string>());
  useEffect(() => {
    if (range === null) {
      for (const f of feeds.current.values()) f.stop();
      started.current.clear();
      return;
    }
    const keep = new Set(want);
    for (const [expr, feed] of feeds.current) {
      if (!keep.has(expr)) {
        feed.stop();
        feeds.current.delete(expr);
        started.current.delete(expr);
      }
    }
    const key = `${rangeKey} ${turn}`;
    for (const expr of want) {
      let feed = feeds.current.get(expr);
      if (!feed) {
        feed = new Feed(expr, changed, (x) => told.current(x));
        feeds.current.set(expr, feed);
      }
      if (started.current.get(expr) !== key) {
        started.current.set(expr, key);
        feed.start(range);
      }
    }
    redraw();
  }, [want, rangeKey, turn]);

  useEffect(
    () => () => {
      for (const f of feeds.current.values()) f.stop();
      if (pending.current) cancelAnimationFrame(pending.current);
    },
    [],
  );

  return exprs.map((expr, i) => {
    const feed = feeds.current.get(expr);
    const state = feed?.state ?? { expr, answer: null, error: null, since: null };
    // A query that has just been edited shows the answer before it until its own is there.
    const old = slots.current[i];
    const shown = state.answer === null && state.error === null && old?.answer && expr !== '' ? { ...state, answer: old.answer, since: state.since ?? performance.now() } : state;
    slots.current[i] = shown;
    return shown;
  });
}

/** The instant answer to a query; null while there is none. */
export interface Row {
  labels: Labels;
  value: number;
  at: number;
}

/** Rows of an instant query at a time (Unix ms). Matrix results give their newest sample. */
export async function instant(expr: string, atMs: number, signal?: AbortSignal): Promise<{ rows: Row[]; text: string | null; warnings: string[]; infos: string[]; ms: number }> {
  const got = await query('/api/v1/query', { query: expr, time: String(atMs / 1000) }, signal);
  const base = { warnings: got.warnings, infos: got.infos, ms: got.ms };
  const number = (v: string): number => (v === '+Inf' ? Number.POSITIVE_INFINITY : v === '-Inf' ? Number.NEGATIVE_INFINITY : Number(v));
  if (got.data.resultType === 'scalar') {
    const [t, v] = got.data.result as [number, string];
    return { ...base, rows: [{ labels: {}, value: number(v), at: t * 1000 }], text: null };
  }
  if (got.data.resultType === 'string') return { ...base, rows: [], text: (got.data.result as [number, string])[1] };
  const rows: Row[] = [];
  for (const s of got.data.result as { metric: Labels; value?: [number, string]; values?: [number, string][] }[]) {
    const last = s.value ?? s.values?.at(-1);
    if (last) rows.push({ labels: s.metric, value: number(last[1]), at: last[0] * 1000 });
  }
  return { ...base, rows, text: null };
}

/** Instant answers for several queries, asked once per `key`. */
export function useInstant(exprs: readonly string[], key: string, atMs: number | null): (Row[] | null)[] {
  const [, redraw] = useReducer<number, void>((n) => n + 1, 0);
  const rows = useRef<(Row[] | null)[]>([]);
  useEffect(() => {
    if (key === '') return;
    const abort = new AbortController();
    exprs.forEach((expr, i) => {
      instant(expr, atMs ?? now(), abort.signal).then(
        (got) => {
          rows.current[i] = got.rows;
          redraw();
        },
        () => undefined,
      );
    });
    return () => abort.abort();
  }, [key, exprs.join('\u0000')]);
  return exprs.map((_, i) => rows.current[i] ?? null);
}

/** The window of the answers at hand; the slide of a live window follows its newest point. */
export function shownWindow(range: Range, states: readonly FeedState[]): { from: number; to: number } {
  if (!range.live) return { from: range.from, to: range.to };
  const newest = Math.max(0, ...states.map((s) => s.answer?.to ?? 0));
  const n = now();
  const to = newest > n - 3 * stepOf(range) && newest <= n + 5000 ? newest : n;
  return windowOf(range, to);
}
