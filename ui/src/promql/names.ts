/** Names the server knows, cached for half a minute: metrics with metadata, labels, label values. */
import { prom } from '../state/api.ts';
import { range } from '../state/route.ts';
import { now } from '../state/clock.ts';
import { DAY, windowOf } from '../state/time.ts';

const FRESH_MS = 30_000;
const CACHE_MAX = 200;
const cache = new Map<string, { at: number; value: Promise<unknown> }>();

function cached<T>(key: string, load: () => Promise<T>): Promise<T> {
  const hit = cache.get(key);
  if (hit && Date.now() - hit.at < FRESH_MS) return hit.value as Promise<T>;
  const value = load();
  value.catch(() => cache.delete(key));
  if (cache.size >= CACHE_MAX) cache.clear();
  cache.set(key, { at: Date.now(), value });
  return value;
}

/** Names are asked for a window a little wider than the one shown, rounded so that the cache holds. */
function windowQuery(): string {
  const w = windowOf(range.peek(), now());
  const from = Math.floor((w.from - DAY) / 60_000) * 60;
  const to = Math.ceil((w.to + 60_000) / 60_000) * 60;
  return `start=${from}&end=${to}`;
}

function match(metric: string | null, matchers: readonly string[]): string {
  if (metric === null && matchers.length === 0) return '';
  return `&match[]=${encodeURIComponent(`${metric ?? ''}{${matchers.join(',')}}`)}`;
}

export interface Metadata {
  type: string;
  help: string;
  unit: string;
}

export function metricNames(): Promise<string[]> {
  return cached('names', () => prom<string[]>('/api/v1/label/__name__/values'));
}

export async function metadata(): Promise<Map<string, Metadata>> {
  return cached('metadata', async () => {
    const all = await prom<Record<string, Metadata[]>>('/api/v1/metadata');
    const out = new Map<string, Metadata>();
    for (const [name, list] of Object.entries(all)) if (list[0]) out.set(name, list[0]);
    return out;
  });
}

/** Metadata of a series name; those of histograms and summaries stand under the family's name. */
export function metadataOf(all: ReadonlyMap<string, Metadata>, name: string): Metadata | undefined {
  return all.get(name) ?? all.get(name.replace(/_(bucket|sum|count|total)$/, ''));
}

export function labelNames(metric: string | null): Promise<string[]> {
  const q = `${windowQuery()}${match(metric, [])}`;
  return cached(`labels?${q}`, () => prom<string[]>(`/api/v1/labels?${q}`));
}

export function labelValues(label: string, metric: string | null, matchers: readonly string[]): Promise<string[]> {
  const q = `${windowQuery()}${match(metric, matchers)}`;
  return cached(`values/${label}?${q}`, () => prom<string[]>(`/api/v1/label/${encodeURIComponent(label)}/values?${q}`));
}
