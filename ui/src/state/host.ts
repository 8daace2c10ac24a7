/** This host, second by second: the ring of the live topic `host`, with rates of counters worked out as values arrive. */
import { signal } from '@preact/signals';
import type { Labels } from '../format.ts';
import { subscribe, type HostDelta, type HostSnapshot, type LiveError } from './live.ts';

/** One series of the ring; `shown` holds the rate per second for counters and the value itself for the rest. */
export interface Track {
  name: string;
  labels: Labels;
  counter: boolean;
  last: number | null;
  lastAt: number;
  shown: (number | null)[];
}

/** Seconds kept in the browser; the server's ring is shorter and fills the start. */
const KEPT = 1800;
/** Two samples further apart than this give no rate: the agent was away. */
const GAP_MS = 15_000;

export const ring: { at: number[]; tracks: Track[] } = { at: [], tracks: [] };
/** Changes whenever the ring does. */
export const ringVersion = signal(0);
export const ringError = signal<string | null>(null);
/** Labels that every series of the ring carries: they name this host in stored samples. */
export const hostLabels = signal<Labels | null>(null);

function track(labels: Labels, empty: number): Track {
  const name = labels['__name__'] ?? '';
  return { name, labels, counter: name.endsWith('_total'), last: null, lastAt: 0, shown: new Array<number | null>(empty).fill(null) };
}

function push(t: Track, at: number, v: number | null): void {
  if (!t.counter) {
    t.shown.push(v);
    return;
  }
  const dt = at - t.lastAt;
  const rate = v !== null && t.last !== null && dt > 0 && dt <= GAP_MS && v >= t.last ? ((v - t.last) / dt) * 1000 : null;
  t.shown.push(rate);
  if (v !== null) {
    t.last = v;
    t.lastAt = at;
  }
}

function commonLabels(): Labels | null {
  const first = ring.tracks[0];
  if (!first) return null;
  const out: Record<string, string> = {};
  for (const [k, v] of Object.entries(first.labels)) {
    if (k !== '__name__' && ring.tracks.every((t) => t.labels[k] === v)) out[k] = v;
  }
  return out;
}

function sameLabels(a: Labels | null, b: Labels | null): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function take(message: HostSnapshot | HostDelta | LiveError): void {
  if (message.type === 'error') {
    ringError.value = message.error;
    return;
  }
  if (message.type === 'snapshot') {
    ring.at = message.at_ms.slice(-KEPT);
    const skip = message.at_ms.length - ring.at.length;
    ring.tracks = message.series.map((s) => {
      const t = track(s.labels, 0);
      message.at_ms.forEach((at, i) => push(t, at, s.values[i] ?? null));
      t.shown.splice(0, skip);
      return t;
    });
  } else {
    // Removed indices speak of the old list, then the added ones follow at its end, then a value for each.
    if (message.removed?.length) {
      const gone = new Set(message.removed);
      ring.tracks = ring.tracks.filter((_, i) => !gone.has(i));
    }
    for (const s of message.added ?? []) ring.tracks.push(track(s.labels, ring.at.length));
    ring.at.push(message.at_ms);
    ring.tracks.forEach((t, i) => push(t, message.at_ms, message.values[i] ?? null));
    if (ring.at.length > KEPT) {
      ring.at.shift();
      for (const t of ring.tracks) t.shown.shift();
    }
  }
  const labels = commonLabels();
  if (!sameLabels(labels, hostLabels.peek())) hostLabels.value = labels;
  ringError.value = null;
  ringVersion.value += 1;
}

let watchers = 0;
let stop: (() => void) | null = null;

/** Keeps the ring filled until the returned function is called. */
export function watchHost(): () => void {
  watchers += 1;
  stop ??= subscribe<HostSnapshot | HostDelta | LiveError>({ topic: 'host' }, take);
  let done = false;
  return () => {
    if (done) return;
    done = true;
    watchers -= 1;
    // A change of page leaves and joins within one turn; the ring need not start over for it.
    setTimeout(() => {
      if (watchers === 0 && stop) {
        stop();
        stop = null;
      }
    }, 1000);
  };
}

/** The tracks of a metric. */
export function tracksOf(name: string): Track[] {
  return ring.tracks.filter((t) => t.name === name);
}

/** The mean of the last five seconds of a counter's rate, the newest value of a gauge: lists sorted by it do not dance. */
export function recent(t: Track): number | null {
  if (!t.counter) return latest(t);
  let sum = 0;
  let n = 0;
  for (const v of t.shown.slice(-5)) {
    if (v === null) continue;
    sum += v;
    n += 1;
  }
  return n === 0 ? null : sum / n;
}

/** The newest value that is not missing among the last three. */
export function latest(t: Track | undefined): number | null {
  if (!t) return null;
  for (let i = t.shown.length - 1; i >= Math.max(0, t.shown.length - 3); i -= 1) {
    const v = t.shown[i];
    if (v !== null && v !== undefined) return v;
  }
  return null;
}
