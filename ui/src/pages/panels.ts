/** What the Infra page draws of a host, once for both sources: the second-by-second ring and stored samples. */
import type { Column, Line, Plot } from '../chart/chart.tsx';
import type { Labels, Unit } from '../format.ts';
import { quote } from '../format.ts';
import { onGrid } from '../chart/grid.ts';
import type { FeedState } from '../state/feed.ts';
import { stepOf } from '../state/feed.ts';
import { ring } from '../state/host.ts';
import type { Range } from '../state/time.ts';

/** A metric summed by one label (or into one line). */
export interface Term {
  id: string;
  metric: string;
  rate?: boolean;
  by?: string;
  /** Drops series whose `by` value matches. The same text serves the ring and PromQL: anchored at both ends. */
  but?: string;
}

/** Columns of the terms, by id and then by label value (`''` without `by`). */
export type Columns = Map<string, Map<string, Column>>;

export interface Panel {
  id: string;
  title: string;
  unit: Unit;
  stacked?: boolean;
  floor?: number;
  ceil?: number;
  terms: readonly Term[];
  /** Lines of the chart from the columns of the terms; none when the host has no such thing. */
  lines: (c: Columns, rows: number) => { name: string; color: number; column: Column }[];
  /** Said in place of the chart when there are no lines. Panels without it are left out then. */
  absent?: string;
  /** The name of the sum of all lines, shown before them. */
  sum?: string;
}

const none: ReadonlyMap<string, Column> = new Map();
const of = (c: Columns, id: string): ReadonlyMap<string, Column> => c.get(id) ?? none;
const one = (c: Columns, id: string): Column | undefined => c.get(id)?.get('');
const combine = (rows: number, f: (row: number) => number | null): Column => Array.from({ length: rows }, (_, i) => f(i));

/** One line per label value of each term, named by it. */
function each(c: Columns, ids: readonly [string, string][], keep = 6) {
  const names = new Set<string>();
  for (const [id] of ids) for (const k of of(c, id).keys()) names.add(k);
  const sums = [...names]
    .map((name) => ({ name, sum: ids.reduce((s, [id]) => s + (of(c, id).get(name) ?? []).reduce<number>((a, v) => a + (v ?? 0), 0), 0) }))
    .sort((a, b) => b.sum - a.sum || (a.name < b.name ? -1 : 1));
  // Devices that did nothing show only when none did anything.
  const active = sums.some((x) => x.sum > 0) ? sums.filter((x) => x.sum > 0) : sums.slice(0, 1);
  const busy = active
    .slice(0, keep)
    .map((x) => x.name)
    .sort();
  const many = busy.length > 1;
  return busy.flatMap((name, n) =>
    ids.flatMap(([id, what], i) => {
      const column = of(c, id).get(name);
      return column ? [{ name: what === '' ? name : many ? `${name} ${what}` : what, color: n * ids.length + i, column }] : [];
    }),
  );
}

/** The kernel books waiting and busy time in lumps: over one second a share can come out above 1. */
const shares = <T extends { column: Column }>(lines: T[]): T[] => lines.map((l) => ({ ...l, column: l.column.map((v) => (v === null ? null : Math.min(1, v))) }));

const named = (c: Columns, list: readonly [id: string, name: string, color: number][]) =>
  list.flatMap(([id, name, color]) => {
    const column = one(c, id);
    return column ? [{ name, color, column }] : [];
  });

/** The modes in drawing order; both kinds of interrupt are one line, and the seldom ones show only where they matter. */
const CPU_MODES: readonly { name: string; modes: readonly string[]; color: number; above: number }[] = [
  { name: 'user', modes: ['user'], color: 0, above: 0 },
  { name: 'system', modes: ['system'], color: 1, above: 0 },
  { name: 'iowait', modes: ['iowait'], color: 6, above: 0 },
  { name: 'irq', modes: ['irq', 'softirq'], color: 4, above: 0.001 },
  { name: 'nice', modes: ['nice'], color: 2, above: 0.005 },
  { name: 'steal', modes: ['steal'], color: 3, above: 0.005 },
];

export const PANELS: readonly Panel[] = [
  {
    id: 'cpu', title: 'CPU', unit: 'percent', stacked: true, floor: 0, ceil: 0.1, sum: 'busy',
    terms: [{ id: 'mode', metric: 'node_cpu_seconds_total', rate: true, by: 'mode', but: 'guest|guest_nice' }],
    lines: (c, rows) => {
      const modes = of(c, 'mode');
      const all = [...modes.values()];
      return CPU_MODES.flatMap(({ name, modes: parts, color, above }) => {
        const cols = parts.map((m) => modes.get(m)).filter((c): c is Column => c !== undefined);
        if (cols.length === 0) return [];
        const column = combine(rows, (i) => {
          if (cols.every((c) => c[i] == null)) return null;
          const total = all.reduce((s, x) => s + (x[i] ?? 0), 0);
          return total > 0 ? cols.reduce((s, c) => s + (c[i] ?? 0), 0) / total : null;
        });
        return column.some((v) => (v ?? 0) >= above) ? [{ name, color, column }] : [];
      });
    },
    absent: 'No CPU samples in this window.',
  },
  {
    id: 'load', title: 'Load', unit: 'short', floor: 0,
    terms: [{ id: '1', metric: 'node_load1' }, { id: '5', metric: 'node_load5' }, { id: '15', metric: 'node_load15' }],
    lines: (c) => named(c, [['1', '1 min', 0], ['5', '5 min', 1], ['15', '15 min', 2]]),
    absent: 'No load samples in this window.',
  },
  {
    id: 'memory', title: 'Memory', unit: 'bytes', stacked: true, floor: 0,
    terms: [
      { id: 'total', metric: 'node_memory_MemTotal_bytes' },
      { id: 'free', metric: 'node_memory_MemFree_bytes' },
      { id: 'available', metric: 'node_memory_MemAvailable_bytes' },
      { id: 'cached', metric: 'node_memory_Cached_bytes' },
      { id: 'buffers', metric: 'node_memory_Buffers_bytes' },
      { id: 'slab', metric: 'node_memory_SReclaimable_bytes' },
    ],
    lines: (c, rows) => {
      const [total, free, available, cached, buffers, slab] = ['total', 'free', 'available', 'cached', 'buffers', 'slab'].map((id) => one(c, id));
      if (!total) return [];
      if (!free || !cached) {
        if (!available) return [];
        return [
          { name: 'used', color: 0, column: combine(rows, (i) => minus(total[i], available[i])) },
          { name: 'available', color: 2, column: available },
        ];
      }
      const cache = combine(rows, (i) => (cached[i] == null ? null : (cached[i] ?? 0) + (buffers?.[i] ?? 0) + (slab?.[i] ?? 0)));
      return [
        { name: 'used', color: 0, column: combine(rows, (i) => minus(total[i], (free[i] ?? 0) + (cache[i] ?? 0))) },
        { name: 'cached', color: 1, column: cache },
        { name: 'free', color: 2, column: free },
      ];
    },
    absent: 'No memory samples in this window.',
  },
  {
    id: 'pressure', title: 'Pressure', unit: 'percent', floor: 0, ceil: 0.01,
    terms: [
      { id: 'cpu', metric: 'node_pressure_cpu_waiting_seconds_total', rate: true },
      { id: 'mem', metric: 'node_pressure_memory_waiting_seconds_total', rate: true },
      { id: 'io', metric: 'node_pressure_io_waiting_seconds_total', rate: true },
      { id: 'memfull', metric: 'node_pressure_memory_stalled_seconds_total', rate: true },
      { id: 'iofull', metric: 'node_pressure_io_stalled_seconds_total', rate: true },
    ],
    lines: (c) => shares(named(c, [['cpu', 'CPU', 0], ['mem', 'memory', 1], ['io', 'I/O', 2], ['memfull', 'memory full', 3], ['iofull', 'I/O full', 6]])),
    absent: 'This kernel reports no pressure (PSI). Linux 4.20 and later do, when booted with psi=1.',
  },
  {
    id: 'disk', title: 'Disk I/O', unit: 'bytes/s', floor: 0,
    terms: [
      { id: 'read', metric: 'node_disk_read_bytes_total', rate: true, by: 'device', but: '(loop|ram|zram|fd).*' },
      { id: 'write', metric: 'node_disk_written_bytes_total', rate: true, by: 'device', but: '(loop|ram|zram|fd).*' },
    ],
    lines: (c) => each(c, [['read', 'read'], ['write', 'write']], 4),
    absent: 'No disk samples in this window.',
  },
  {
    id: 'busy', title: 'Disk busy', unit: 'percent', floor: 0, ceil: 0.01,
    terms: [{ id: 'io', metric: 'node_disk_io_time_seconds_total', rate: true, by: 'device', but: '(loop|ram|zram|fd).*' }],
    lines: (c) => shares(each(c, [['io', '']], 8)),
  },
  {
    id: 'network', title: 'Network', unit: 'bytes/s', floor: 0,
    terms: [
      { id: 'in', metric: 'node_network_receive_bytes_total', rate: true, by: 'device', but: '(lo|veth.*|docker.*|br-.*|cali.*)' },
      { id: 'out', metric: 'node_network_transmit_bytes_total', rate: true, by: 'device', but: '(lo|veth.*|docker.*|br-.*|cali.*)' },
    ],
    lines: (c) => each(c, [['in', 'in'], ['out', 'out']], 4),
    absent: 'No network interface but loopback in this window.',
  },
  {
    id: 'errors', title: 'Network errors', unit: 'per_s', floor: 0, ceil: 1,
    terms: [
      { id: 'ie', metric: 'node_network_receive_errs_total', rate: true },
      { id: 'oe', metric: 'node_network_transmit_errs_total', rate: true },
      { id: 'id', metric: 'node_network_receive_drop_total', rate: true },
      { id: 'od', metric: 'node_network_transmit_drop_total', rate: true },
    ],
    lines: (c) => named(c, [['ie', 'errors in', 6], ['oe', 'errors out', 3], ['id', 'drops in', 1], ['od', 'drops out', 4]]),
  },
  {
    id: 'swap', title: 'Swap', unit: 'bytes', floor: 0,
    terms: [{ id: 'total', metric: 'node_memory_SwapTotal_bytes' }, { id: 'free', metric: 'node_memory_SwapFree_bytes' }],
    lines: (c, rows) => {
      const [total, free] = [one(c, 'total'), one(c, 'free')];
      if (!total || !free || !total.some((v) => (v ?? 0) > 0)) return [];
      return [
        { name: 'used', color: 1, column: combine(rows, (i) => minus(total[i], free[i])) },
        { name: 'size', color: 7, column: total },
      ];
    },
    absent: 'This host has no swap.',
  },
  {
    id: 'kernel', title: 'Context switches and interrupts', unit: 'per_s', floor: 0,
    terms: [
      { id: 'ctx', metric: 'node_context_switches_total', rate: true },
      { id: 'intr', metric: 'node_intr_total', rate: true },
      { id: 'forks', metric: 'node_forks_total', rate: true },
    ],
    lines: (c) => named(c, [['ctx', 'switches', 0], ['intr', 'interrupts', 1], ['forks', 'new processes', 2]]),
  },
  {
    id: 'own-cpu', title: 'Overseer itself: CPU', unit: 'percent', floor: 0, ceil: 0.02,
    terms: [{ id: 'cpu', metric: 'process_cpu_seconds_total', rate: true }],
    lines: (c) => named(c, [['cpu', 'of one core', 0]]),
  },
  {
    id: 'own-memory', title: 'Overseer itself: memory', unit: 'bytes', floor: 0,
    terms: [{ id: 'rss', metric: 'process_resident_memory_bytes' }],
    lines: (c) => named(c, [['rss', 'resident', 2]]),
  },
];

function minus(a: number | null | undefined, b: number | null | undefined): number | null {
  return a === null || a === undefined || b === null || b === undefined ? null : Math.max(0, a - b);
}

/** The matchers that pick one host out of stored samples. */
export function hostMatchers(labels: Labels): string[] {
  return Object.entries(labels).map(([k, v]) => `${k}=${quote(v)}`);
}

/** The PromQL of a term for a host. Rates look back over four stored samples, or one step where that is longer. */
export function exprOf(term: Term, matchers: readonly string[], range: Range): string {
  const parts = [...matchers];
  if (term.but && term.by) parts.push(`${term.by}!~${quote(term.but)}`);
  const selector = `${term.metric}${parts.length ? `{${parts.join(',')}}` : ''}`;
  const inner = term.rate ? `rate(${selector}[${Math.max(40, stepOf(range) / 1000)}s])` : selector;
  return term.by ? `sum by (${term.by}) (${inner})` : `sum(${inner})`;
}

/** All queries of all panels, in the order in which `fromAnswers` reads their answers. */
export function allExprs(matchers: readonly string[], range: Range): string[] {
  return PANELS.flatMap((p) => p.terms.map((t) => exprOf(t, matchers, range)));
}

export interface Drawn {
  panel: Panel;
  plot: Plot;
}

function draw(panel: Panel, columns: Columns, at: number[]): Drawn {
  const lines = panel.lines(columns, at.length).filter((l) => l.column.some((v) => v !== null));
  return { panel, plot: { at, lines: lines.map((l): Line => ({ key: l.name, label: l.name, color: l.color })), columns: lines.map((l) => l.column) } };
}

/** Panels from the ring, from the given time on (Unix ms). */
export function fromRing(from: number): Drawn[] {
  let start = ring.at.findIndex((t) => t >= from);
  if (start < 0) start = ring.at.length;
  const at = ring.at.slice(start);
  const wanted = new Map<string, { key: string; term: Term; but: RegExp | null }[]>();
  for (const p of PANELS) {
    for (const term of p.terms) {
      const list = wanted.get(term.metric) ?? [];
      list.push({ key: `${p.id}/${term.id}`, term, but: term.but ? new RegExp(`^(?:${term.but})$`) : null });
      wanted.set(term.metric, list);
    }
  }
  const sums = new Map<string, Map<string, Column>>();
  for (const t of ring.tracks) {
    for (const { key, term, but } of wanted.get(t.name) ?? []) {
      const value = term.by ? (t.labels[term.by] ?? '') : '';
      if (but?.test(value)) continue;
      let group = sums.get(key);
      if (!group) sums.set(key, (group = new Map()));
      const column = group.get(value);
      if (!column) {
        group.set(value, t.shown.slice(start));
        continue;
      }
      for (let i = 0; i < at.length; i += 1) {
        const v = t.shown[start + i];
        if (v !== null && v !== undefined) column[i] = (column[i] ?? 0) + v;
      }
    }
  }
  return PANELS.map((p) => draw(p, new Map(p.terms.map((t) => [t.id, sums.get(`${p.id}/${t.id}`) ?? new Map()])), at));
}

/** Panels from the answers to `allExprs`. */
export function fromAnswers(states: readonly FeedState[]): Drawn[] {
  let n = 0;
  return PANELS.map((p) => {
    const curves: { id: string; name: string; at: number[]; values: (number | null)[] }[] = [];
    let step = 10_000;
    for (const term of p.terms) {
      const answer = states[n]?.answer;
      n += 1;
      if (!answer) continue;
      step = answer.step;
      for (const c of answer.curves) curves.push({ id: term.id, name: term.by ? (c.labels[term.by] ?? '') : '', at: c.at, values: c.values });
    }
    const grid = onGrid(curves, step);
    const columns: Columns = new Map();
    curves.forEach((c, i) => {
      let group = columns.get(c.id);
      if (!group) columns.set(c.id, (group = new Map()));
      group.set(c.name, grid.columns[i] ?? []);
    });
    return draw(p, columns, grid.at);
  });
}

/** The older part before the newer: rows of `b` win where both have some. Lines follow `b`, then what only `a` has. */
export function joined(a: Drawn, b: Drawn): Drawn {
  // The ring's first row has no rates yet: the older samples reach up to the first row that says something.
  const head = Math.max(0, b.plot.at.findIndex((_, i) => b.plot.columns.some((c) => c[i] != null)));
  const cut = b.plot.at[head] ?? Number.POSITIVE_INFINITY;
  let rows = a.plot.at.findIndex((t) => t >= cut);
  if (rows < 0) rows = a.plot.at.length;
  if (rows === 0) return b;
  if (b.plot.at.length === 0) return a;
  const gap = <T>(n: number, v: T): T[] => new Array<T>(n).fill(v);
  const lines: Line[] = [];
  const columns: Column[] = [];
  for (const source of [b, a]) {
    source.plot.lines.forEach((line) => {
      if (lines.some((l) => l.key === line.key)) return;
      const [ia, ib] = [a, b].map((x) => x.plot.lines.findIndex((l) => l.key === line.key)) as [number, number];
      lines.push(line);
      columns.push([
        ...(ia >= 0 ? (a.plot.columns[ia] ?? []).slice(0, rows) : gap(rows, null)),
        ...(ib >= 0 ? (b.plot.columns[ib] ?? []).slice(head) : gap(b.plot.at.length - head, null)),
      ]);
    });
  }
  return { panel: b.panel, plot: { at: [...a.plot.at.slice(0, rows), ...b.plot.at.slice(head)], lines, columns } };
}
