/** One host on one page: live by the second, or any window of stored samples. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Chart } from '../chart/chart.tsx';
import { seriesColor } from '../chart/palette.ts';
import { formatClock } from '../state/time.ts';
import { formatCount, formatValue, type Labels } from '../format.ts';
import { self } from '../state/api.ts';
import { now, tick } from '../state/clock.ts';
import { shownWindow, stepOf, useFeeds, useInstant, type Answer, type Row } from '../state/feed.ts';
import { hostLabels, latest, recent, ring, ringError, ringVersion, tracksOf, watchHost } from '../state/host.ts';
import { dark, utc } from '../state/prefs.ts';
import { change, params, range } from '../state/route.ts';
import type { Range } from '../state/time.ts';
import { Empty, Meter } from '../shell/parts.tsx';
import { allExprs, fromAnswers, fromRing, hostMatchers, joined, type Drawn } from './panels.ts';

/** A live window starts at least this wide, then grows with the samples until it is as wide as asked. */
const LIVE_MIN = 60_000;
const CHART_HEIGHT = 168;
/** One width for all value axes, so that the time axes of a column stand in line. */
const AXIS_WIDTH = 68;

export function Infra() {
  const other = params.value.get('host');
  useEffect(() => watchHost(), []);
  const own = hostLabels.value;
  const labels: Labels | null = other !== null ? { instance: other } : own;
  return <Host key={other ?? ''} labels={labels} other={other} />;
}

function Host({ labels, other }: { labels: Labels | null; other: string | null }) {
  const r = range.value;
  const fromRingNow = r.live && other === null;
  ringVersion.value;
  const ringStart = ring.at[0] ?? null;

  // Stored samples fill what the ring does not hold: all of a still window, the older part of a long live one.
  const matchers = useMemo(() => (labels ? hostMatchers(labels) : null), [labels]);
  const older = fromRingNow && ringStart !== null && r.live && ringStart > now() - r.span + 15_000;
  const pastKey = fromRingNow ? `${r.span}` : '';
  const [pastTo, setPastTo] = useState<{ key: string; range: Range } | null>(null);
  useEffect(() => {
    if (older && r.live && ringStart !== null && pastTo?.key !== pastKey) {
      setPastTo({ key: pastKey, range: { live: false, from: Math.floor((now() - r.span) / 1000) * 1000, to: ringStart } });
    }
  }, [older, pastKey]);
  const past = fromRingNow ? (older && pastTo?.key === pastKey && pastTo.range.live === false && pastTo.range.to - pastTo.range.from > 20_000 ? pastTo.range : null) : r;
  const exprs = useMemo(() => (past && matchers ? allExprs(matchers, past) : []), [matchers, past === null ? '' : stepOf(past), past === null]);
  const states = useFeeds(exprs, past);
  const stored = useMemo(() => (states.length > 0 ? fromAnswers(states) : null), [states.map((s) => s.answer)].flat());

  let drawn: Drawn[];
  let view: { from: number; to: number };
  if (fromRingNow && r.live) {
    const to = ring.at.at(-1) ?? now();
    drawn = fromRing(to - r.span);
    if (stored && past) drawn = drawn.map((d, i) => (stored[i] ? joined(stored[i] as Drawn, d) : d));
    const first = Math.min(...drawn.map((d) => d.plot.at[0] ?? to));
    const width = Math.min(r.span, Math.max(LIVE_MIN, to - first));
    view = { from: to - width, to };
  } else {
    drawn = stored ?? [];
    view = shownWindow(r, states);
  }

  const failed = states.find((s) => s.error !== null && s.answer === null)?.error ?? null;
  const waiting = fromRingNow ? ring.at.length === 0 : states.every((s) => s.answer === null) && failed === null;
  const nothing = !waiting && drawn.every((d) => d.plot.lines.length === 0);
  const title = other ?? self.value?.host ?? 'This host';

  return (
    <div class="page infra">
      <div class="page-head">
        <h1 title={title}>{title}</h1>
        <HostFacts other={other} labels={labels} />
        {other !== null && (
          <button type="button" class="button quiet" onClick={() => change({ host: null })}>
            This host
          </button>
        )}
      </div>
      {fromRingNow && self.value?.agent !== false && ringError.value !== null && <div class="notice bad">{ringError.value}</div>}
      {self.value?.agent === false && other === null && ring.at.length === 0 ? (
        <Empty title="No agent runs in this process" text="Overseer watches its own host when the agent role runs." command="overseer run --roles ingress,processor,store,gateway,agent" />
      ) : waiting ? (
        <div class="panels late">
          {Array.from({ length: 6 }, (_, i) => (
            <div class="panel hollow" key={i} />
          ))}
        </div>
      ) : nothing ? (
        <Empty
          title={failed ? 'The samples of this window could not be read' : 'No samples of this host in this window'}
          text={failed ?? 'Pick a later window, or go live with the key l.'}
          command={failed ? undefined : `overseer query 'node_load1' --range`}
        />
      ) : (
        <>
          {failed && <div class="notice bad">{failed}</div>}
          <div class={`panels${!fromRingNow && states.some((s) => s.since !== null && performance.now() - s.since > 150) ? ' old' : ''}`}>
            {drawn.map((d) => (
              <PanelView key={d.panel.id} drawn={d} view={view} />
            ))}
          </div>
          <div class="tables">
            <FileSystems fromRingNow={fromRingNow} matchers={matchers} at={r.live ? null : r.to} />
            <Processes fromRingNow={fromRingNow} matchers={matchers} at={r.live ? null : r.to} />
          </div>
        </>
      )}
    </div>
  );
}

function HostFacts({ other, labels }: { other: string | null; labels: Labels | null }) {
  ringVersion.value;
  const live = other === null && ring.at.length > 0;
  const uname = live ? tracksOf('node_uname_info')[0]?.labels : undefined;
  const asked = useInstant(labels && !uname ? [`node_uname_info{${hostMatchers(labels).join(',')}}`] : [], labels && !uname ? JSON.stringify(labels) : '', null);
  const info = uname ?? asked[0]?.[0]?.labels;
  const cores = live ? new Set(tracksOf('node_cpu_seconds_total').map((t) => t.labels['cpu'])).size : 0;
  const memory = live ? latest(tracksOf('node_memory_MemTotal_bytes')[0]) : null;
  const facts = [
    info?.['sysname'] && info['release'] ? `${info['sysname']} ${info['release']}` : null,
    info?.['machine'] ?? null,
    cores > 0 ? `${cores} ${cores === 1 ? 'core' : 'cores'}` : null,
    memory !== null ? formatValue(memory, 'bytes') : null,
  ].filter((x): x is string => x !== null);
  return (
    <div class="facts">
      {facts.map((f) => (
        <span key={f}>{f}</span>
      ))}
      {live && range.value.live && (
        <span class="num" title="time of the newest sample">
          {formatClock(ring.at.at(-1) ?? tick.value, utc.value)}
        </span>
      )}
    </div>
  );
}

function PanelView({ drawn, view }: { drawn: Drawn; view: { from: number; to: number } }) {
  const { panel, plot } = drawn;
  const [row, setRow] = useState<number | null>(null);
  const box = useRef<HTMLElement>(null);
  const near = useNear(box);
  if (plot.lines.length === 0) {
    if (panel.absent === undefined) return null;
    return (
      <section class="panel" aria-label={panel.title}>
        <header>
          <h2>{panel.title}</h2>
        </header>
        <p class="absent">{panel.absent}</p>
      </section>
    );
  }
  const at = row !== null && row < plot.at.length ? row : null;
  return (
    <section class="panel" aria-label={panel.title} data-panel={panel.id} ref={box}>
      <header>
        <h2>{panel.title}</h2>
        <div class="chips">
          {panel.sum && (
            <span class="chip">
              <span class="chip-name">{panel.sum}</span>
              <b>{formatValue(sumAt(plot.columns, at), panel.unit)}</b>
            </span>
          )}
          {plot.lines.map((l, i) => (
            <span class="chip" key={l.key} title={l.label}>
              <i style={{ background: seriesColor(l.color, dark.value) }} />
              <span class="chip-name">{l.label}</span>
              <b>{formatValue(at === null ? lastOf(plot.columns[i]) : (plot.columns[i]?.[at] ?? null), panel.unit)}</b>
            </span>
          ))}
        </div>
      </header>
      {near ? (
        <Chart
          plot={plot}
          from={view.from}
          to={view.to}
          unit={panel.unit}
          height={CHART_HEIGHT}
          stacked={panel.stacked ?? false}
          floor={panel.floor ?? null}
          ceil={panel.ceil ?? null}
          axisWidth={AXIS_WIDTH}
          onCursor={setRow}
          label={`${panel.title}: ${plot.lines.map((l) => l.label).join(', ')}`}
        />
      ) : (
        <div style={{ height: `${CHART_HEIGHT}px` }} />
      )}
    </section>
  );
}

/** True while the element is on the screen or close to it: charts far away are not drawn. */
function useNear(ref: { current: HTMLElement | null }): boolean {
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (!ref.current) return;
    const watch = new IntersectionObserver((entries) => setNear(entries.at(-1)?.isIntersecting ?? false), { rootMargin: '300px' });
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, [ref.current]);
  return near;
}

function lastOf(column: readonly (number | null)[] | undefined): number | null {
  if (!column) return null;
  for (let i = column.length - 1; i >= Math.max(0, column.length - 3); i -= 1) {
    const v = column[i];
    if (v !== null && v !== undefined) return v;
  }
  return null;
}

function sumAt(columns: readonly (readonly (number | null)[])[], row: number | null): number | null {
  return columns.reduce<number | null>((s, c) => {
    const v = row === null ? lastOf(c) : (c[row] ?? null);
    return v === null ? s : (s ?? 0) + v;
  }, null);
}

interface Source {
  fromRingNow: boolean;
  matchers: readonly string[] | null;
  at: number | null;
}

/** Newest rows of a metric: from the ring, pushed for another live host, or by an instant query for a still window. */
function useRows(metrics: readonly { metric: string; rate?: boolean }[], { fromRingNow, matchers, at }: Source): Row[][] {
  const exprs = useMemo(
    () => (fromRingNow || !matchers ? [] : metrics.map((m) => (m.rate ? `rate(${m.metric}{${matchers.join(',')}}[1m])` : `${m.metric}{${matchers.join(',')}}`))),
    [fromRingNow, matchers],
  );
  const still = at !== null;
  const asked = useInstant(still ? exprs : [], still && exprs.length ? `${exprs.join()}@${at}` : '', at);
  const pushed = useFeeds(still ? [] : exprs, RECENT);
  if (!fromRingNow) return metrics.map((_, i) => (still ? (asked[i] ?? []) : newest(pushed[i]?.answer ?? null)));
  ringVersion.value;
  return metrics.map((m) =>
    tracksOf(m.metric).flatMap((t) => {
      const value = recent(t);
      return value === null ? [] : [{ labels: t.labels, value, at: ring.at.at(-1) ?? 0 }];
    }),
  );
}

const RECENT: Range = { live: true, span: 60_000 };

function newest(answer: Answer | null): Row[] {
  return (answer?.curves ?? []).flatMap((c) => {
    const value = c.values.at(-1);
    const at = c.at.at(-1);
    return value === null || value === undefined || at === undefined ? [] : [{ labels: c.labels, value, at }];
  });
}

const PSEUDO = /^(tmpfs|devtmpfs|overlay|squashfs|ramfs|proc|sysfs|cgroup2?|autofs|nsfs|fuse\.lxcfs|efivarfs)$/;

function FileSystems(source: Source) {
  const [sizes, avails] = useRows([{ metric: 'node_filesystem_size_bytes' }, { metric: 'node_filesystem_avail_bytes' }], source) as [Row[], Row[]];
  const all = sizes
    .map((s) => {
      const avail = avails.find((a) => a.labels['mountpoint'] === s.labels['mountpoint'] && a.labels['device'] === s.labels['device']);
      return { labels: s.labels, size: s.value, avail: avail?.value ?? null };
    })
    .filter((f) => f.size > 0);
  const real = all.filter((f) => !PSEUDO.test(f.labels['fstype'] ?? ''));
  const list = (real.length > 0 ? real : all).sort((a, b) => share(b) - share(a));
  return (
    <Card title="File systems" note={list.length > 0 ? String(list.length) : ''}>
      {list.length === 0 ? (
        <p class="absent">No file system samples in this window.</p>
      ) : (
        <table class="table">
          <thead>
            <tr>
              <th>Mounted on</th>
              <th class="wide">Used</th>
              <th class="n">Free</th>
              <th class="n hide-s">Size</th>
            </tr>
          </thead>
          <tbody>
            {list.slice(0, 30).map((f) => (
              <tr key={`${f.labels['device']} ${f.labels['mountpoint']}`}>
                <td class="clip" title={`${f.labels['device'] ?? ''} ${f.labels['fstype'] ?? ''}`}>
                  {f.labels['mountpoint'] ?? '?'}
                </td>
                <td>
                  <Meter share={share(f)} label={formatValue(share(f), 'percent')} warn={0.8} bad={0.92} />
                </td>
                <td class="n">{formatValue(f.avail, 'bytes')}</td>
                <td class="n hide-s">{formatValue(f.size, 'bytes')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}

function share(f: { size: number; avail: number | null }): number {
  return f.avail === null ? 0 : Math.max(0, Math.min(1, 1 - f.avail / f.size));
}

function Processes(source: Source) {
  const [order, setOrder] = useState<'cpu' | 'memory'>('cpu');
  const [cpu, memory] = useRows(
    [{ metric: 'overseer_agent_process_cpu_seconds_total', rate: true }, { metric: 'overseer_agent_process_resident_memory_bytes' }],
    source,
  ) as [Row[], Row[]];
  const byPid = new Map<string, { pid: string; comm: string; cpu: number | null; memory: number | null }>();
  const at = (l: Labels) => {
    const key = `${l['pid']} ${l['comm']}`;
    let p = byPid.get(key);
    if (!p) byPid.set(key, (p = { pid: l['pid'] ?? '', comm: l['comm'] ?? l['groupname'] ?? '?', cpu: null, memory: null }));
    return p;
  };
  for (const row of cpu) at(row.labels).cpu = row.value;
  for (const row of memory) at(row.labels).memory = row.value;
  const list = [...byPid.values()].sort((a, b) => (b[order] ?? -1) - (a[order] ?? -1) || (b.memory ?? 0) - (a.memory ?? 0) || (a.pid < b.pid ? -1 : 1)).slice(0, 15);
  const most = Math.max(0.01, ...list.map((p) => p.cpu ?? 0));
  const head = (key: 'cpu' | 'memory', name: string) => (
    <th class="n" aria-sort={order === key ? 'descending' : 'none'}>
      <button type="button" class="sort" onClick={() => setOrder(key)}>
        {name}
        {order === key ? ' ↓' : ''}
      </button>
    </th>
  );
  return (
    <Card title="Costliest processes" note={byPid.size > 0 ? formatCount(byPid.size) : ''}>
      {list.length === 0 ? (
        <p class="absent">No process samples in this window.</p>
      ) : (
        <table class="table">
          <thead>
            <tr>
              <th>Process</th>
              <th class="n hide-s">PID</th>
              <th class="wide hide-s" aria-label="share of CPU" />
              {head('cpu', 'CPU')}
              {head('memory', 'Memory')}
            </tr>
          </thead>
          <tbody>
            {list.map((p) => (
              <tr key={`${p.pid} ${p.comm}`}>
                <td class="clip" title={p.comm}>
                  {p.comm}
                </td>
                <td class="n faint hide-s">{p.pid}</td>
                <td class="hide-s">
                  <Meter share={(p.cpu ?? 0) / most} />
                </td>
                <td class="n">{formatValue(p.cpu, 'percent')}</td>
                <td class="n">{formatValue(p.memory, 'bytes')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}

function Card({ title, note, children }: { title: string; note: string; children: ComponentChildren }) {
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class="faint num">{note}</span>
      </header>
      {children}
    </section>
  );
}
