/** What matters at this moment: this host, the ways in, the fleet. */
import { signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { Spark } from '../chart/spark.tsx';
import { formatAge, formatCount, formatUptime, formatValue, type Labels } from '../format.ts';
import { get, locked, self } from '../state/api.ts';
import { tick } from '../state/clock.ts';
import { useFeeds, type Answer } from '../state/feed.ts';
import { hostLabels, latest, ring, ringError, ringVersion, tracksOf, watchHost } from '../state/host.ts';
import { subscribe } from '../state/live.ts';
import { introHidden, setIntroHidden } from '../state/prefs.ts';
import { change, go, link, params } from '../state/route.ts';
import { Icon } from '../shell/icons.tsx';
import { Code, Meter } from '../shell/parts.tsx';
import { fromRing } from './panels.ts';
import type { Range } from '../state/time.ts';

export function Now() {
  useEffect(() => watchHost(), []);
  return (
    <div class="page now">
      <Health />
      <Fleet />
      <Intake />
    </div>
  );
}

interface Tile {
  id: string;
  name: string;
  value: string;
  note: string;
  share: number | null;
  values: (number | null)[];
  top?: number;
  color: number;
  /** Why this needs a look, or null when it does not. */
  trouble: string | null;
}

const SPARK_MS = 120_000;

function tiles(): Tile[] {
  const to = ring.at.at(-1) ?? 0;
  const drawn = fromRing(to - SPARK_MS);
  const plot = (id: string) => drawn.find((d) => d.panel.id === id)?.plot;
  const end = (v: readonly (number | null)[] | undefined) => v?.at(-1) ?? v?.at(-2) ?? null;
  const cores = new Set(tracksOf('node_cpu_seconds_total').map((t) => t.labels['cpu'])).size;

  const cpuPlot = plot('cpu');
  const cpu = (cpuPlot?.at ?? []).map((_, i) => {
    const parts = (cpuPlot?.columns ?? []).map((c) => c[i] ?? null);
    return parts.every((v) => v === null) ? null : parts.reduce<number>((s, v) => s + (v ?? 0), 0);
  });
  const cpuNow = end(cpu);

  const total = latest(tracksOf('node_memory_MemTotal_bytes')[0]);
  const available = tracksOf('node_memory_MemAvailable_bytes')[0];
  const free = latest(available);
  const start = Math.max(0, ring.at.findIndex((t) => t >= to - SPARK_MS));
  const memory = total === null ? [] : (available?.shown.slice(start) ?? []).map((v) => (v === null ? null : 1 - v / total));
  const memoryNow = end(memory);

  const avails = tracksOf('node_filesystem_avail_bytes');
  const disks = tracksOf('node_filesystem_size_bytes')
    .filter((t) => !/^(tmpfs|devtmpfs|overlay|squashfs|ramfs|efivarfs)$/.test(t.labels['fstype'] ?? '') || t.labels['mountpoint'] === '/')
    .map((t) => {
      const a = latest(avails.find((x) => x.labels['mountpoint'] === t.labels['mountpoint'] && x.labels['device'] === t.labels['device']));
      const size = latest(t);
      return { mount: t.labels['mountpoint'] ?? '?', free: a, share: a !== null && size ? 1 - a / size : 0 };
    })
    .sort((a, b) => b.share - a.share);
  const disk = disks[0];

  const load = plot('load')?.columns[0] ?? [];
  const loadNow = end(load);
  const net = plot('network');
  const sum = (what: RegExp) => (net?.at ?? []).map((_, i) => (net?.lines ?? []).reduce<number | null>((s, l, n) => (what.test(l.label) ? (s ?? 0) + (net?.columns[n]?.[i] ?? 0) : s), null));
  const [inward, outward] = [sum(/in$/), sum(/out$/)];
  const both = inward.map((v, i) => (v === null && outward[i] == null ? null : (v ?? 0) + (outward[i] ?? 0)));

  return [
    { id: 'cpu', name: 'CPU', value: formatValue(cpuNow, 'percent'), note: cores > 0 ? `${cores} ${cores === 1 ? 'core' : 'cores'}` : '', share: cpuNow, values: cpu, top: Math.max(0.1, ...cpu.map((v) => v ?? 0)), color: 0, trouble: cpuNow !== null && cpuNow > 0.9 ? 'CPU is above 90 %' : null },
    { id: 'memory', name: 'Memory', value: formatValue(memoryNow, 'percent'), note: free !== null && total !== null ? `${formatValue(free, 'bytes')} of ${formatValue(total, 'bytes')} available` : '', share: memoryNow, values: memory, top: 1, color: 0, trouble: memoryNow !== null && memoryNow > 0.92 ? `only ${formatValue(free, 'bytes')} of memory is available` : null },
    { id: 'disk', name: 'Fullest disk', value: formatValue(disk?.share ?? null, 'percent'), note: disk ? `${formatValue(disk.free, 'bytes')} free on ${disk.mount}` : '', share: disk?.share ?? null, values: [], color: 0, trouble: disk && disk.share > 0.92 ? `${disk.mount} is ${formatValue(disk.share, 'percent')} full` : null },
    { id: 'load', name: 'Load', value: formatValue(loadNow, 'short'), note: cores > 0 && loadNow !== null ? `${formatValue(loadNow / cores, 'short')} per core` : '', share: null, values: [...load], top: Math.max(1, ...load.map((v) => v ?? 0)), color: 0, trouble: loadNow !== null && cores > 0 && loadNow > 2 * cores ? 'load is above two per core' : null },
    { id: 'network', name: 'Network', value: formatValue(end(both), 'bytes/s'), note: both.length > 0 ? `${formatValue(end(inward), 'bytes/s')} in, ${formatValue(end(outward), 'bytes/s')} out` : '', share: null, values: both, color: 0, trouble: null },
  ];
}

function Health() {
  const me = self.value;
  const version = ringVersion.value;
  const all = useMemo(() => (ring.at.length > 0 ? tiles() : null), [version]);
  const trouble = (all ?? []).map((t) => t.trouble).filter((t): t is string => t !== null);
  if (me?.agent === false && all === null) {
    return (
      <div class="page-head">
        <h1>{me.host}</h1>
        <div class="facts">
          <span>No agent runs in this process, so it does not watch its own host.</span>
        </div>
      </div>
    );
  }
  return (
    <section aria-label="This host">
      <div class="page-head">
        <h1 title={me?.host}>{me?.host ?? 'This host'}</h1>
        {all !== null && (
          <span class={`state ${trouble.length > 0 ? 'warn' : 'ok'}`} role="status">
            <i />
            <span>{trouble.length > 0 ? sentence(trouble.join(', ')) : 'Nothing stands out'}</span>
          </span>
        )}
        <div class="facts">
          {me && <span>Overseer {me.version}, up {formatUptime(tick.value - me.started_ms)}</span>}
          {ringError.value !== null && <span class="wrong">{ringError.value}</span>}
        </div>
      </div>
      <div class="tiles late">
        {(all ?? []).map((t) => (
          <a
            key={t.id}
            class={t.trouble ? 'tile troubled' : 'tile'}
            href={link('/infra')}
            onClick={(e) => {
              if (e.ctrlKey || e.metaKey || e.shiftKey) return;
              e.preventDefault();
              go('/infra');
            }}
          >
            <span class="tile-name">{t.name}</span>
            <span class="tile-value num">{t.value}</span>
            <span class="tile-note" title={t.note}>
              {t.note}
            </span>
            {t.values.length > 0 ? <Spark values={t.values} color={t.color} {...(t.top === undefined ? {} : { top: t.top })} /> : <Meter share={t.share ?? 0} warn={0.8} bad={0.92} />}
          </a>
        ))}
        {all === null && Array.from({ length: 5 }, (_, i) => <div key={i} class="tile hollow" />)}
      </div>
    </section>
  );
}

function sentence(s: string): string {
  return s.charAt(0).toUpperCase() + s.slice(1);
}

export interface Way {
  id: string;
  name: string;
  doc: string;
  lines: { label: string; text: string }[];
  first_ms: number | null;
  last_ms: number | null;
  samples: number;
  /** Samples refused, where the server counts them. */
  rejected?: number;
}

const ways = signal<Way[] | null>(null);
const waysError = signal<string | null>(null);

function useWays(): void {
  useEffect(() => {
    let pushed = false;
    get<{ ways: Way[] }>('/api/v1/intake').then(
      (got) => {
        if (!pushed) ways.value = got.ways;
        waysError.value = null;
      },
      (e: unknown) => {
        if (!pushed) waysError.value = e instanceof Error ? e.message : String(e);
      },
    );
    return subscribe<{ type: string; ways?: Way[]; way?: Way; error?: string }>({ topic: 'intake' }, (m) => {
      pushed = true;
      if (m.type === 'error') waysError.value = m.error ?? 'the live channel refused';
      else waysError.value = null;
      const { way } = m;
      if (m.ways) ways.value = m.ways;
      else if (way) ways.value = (ways.peek() ?? []).some((w) => w.id === way.id) ? (ways.peek() ?? []).map((w) => (w.id === way.id ? way : w)) : [...(ways.peek() ?? []), way];
    });
  }, [locked.value]);
}

/** Data that came within this time counts as flowing. */
const FLOWING_MS = 5 * 60_000;
const FRESH_MS = 2 * 60_000;

function wayState(w: Way, now: number): { state: 'waiting' | 'flowing' | 'quiet'; text: string } {
  if (w.first_ms === null) return { state: 'waiting', text: 'waiting' };
  const last = w.last_ms ?? w.first_ms;
  const state = now - last < FLOWING_MS ? 'flowing' : 'quiet';
  if (now - w.first_ms < FRESH_MS) return { state, text: `first sample ${formatAge(now - w.first_ms)}` };
  return { state, text: `last sample ${formatAge(now - last)}` };
}

function Intake() {
  useWays();
  // A way without lines needs nothing from the person: the agent inside.
  const list = ways.value?.filter((w) => w.lines.length > 0) ?? null;
  const now = Math.max(tick.value, Date.now());
  if (waysError.value !== null && list === null) return <div class="notice bad">{waysError.value}</div>;
  if (list === null || list.length === 0) return null;
  const flowing = list.filter((w) => wayState(w, now).state === 'flowing').length;
  const total = list.reduce((s, w) => s + w.samples, 0);
  if (introHidden.value) {
    return (
      <section class="quiet-line" aria-label="Ways in">
        <span>
          {flowing} of {list.length} ways in are flowing, {formatCount(total)} samples taken
        </span>
        <button type="button" class="button quiet" onClick={() => setIntroHidden(false)}>
          Show how to send data
        </button>
      </section>
    );
  }
  const chosen = list.find((w) => w.id === params.value.get('way')) ?? list[0];
  return (
    <section class="intake" aria-label="Send data here">
      <div class="section-head">
        <h2>Send data here</h2>
        <span class="faint">Paste the lines for what you already run. The dot fills when the first sample arrives.</span>
        <button type="button" class="button quiet push" onClick={() => setIntroHidden(true)}>
          Hide
        </button>
      </div>
      <div class="ways">
        <div class="ways-list" role="tablist" aria-label="Ways in" aria-orientation="vertical">
          {list.map((w) => {
            const s = wayState(w, now);
            return (
              <button key={w.id} type="button" role="tab" class="way" aria-selected={w === chosen} data-way={w.id} data-state={s.state} onClick={() => change({ way: w.id }, true)}>
                <Dot state={s.state} />
                <span class="way-name">{w.name}</span>
                <span class="way-state num">{s.text}</span>
              </button>
            );
          })}
        </div>
        {chosen && <WayCard way={chosen} now={now} />}
      </div>
    </section>
  );
}

function Dot({ state }: { state: 'waiting' | 'flowing' | 'quiet' }) {
  return <span class={`dot ${state}`}>{state === 'flowing' && <Icon name="check" />}</span>;
}

function WayCard({ way, now }: { way: Way; now: number }) {
  const s = wayState(way, now);
  return (
    <div class="way-card" role="tabpanel" data-card={way.id}>
      <div class="way-head">
        <h3>{way.name}</h3>
        <span class={`way-said num ${s.state}`} role="status">
          <Dot state={s.state} />
          {s.state === 'waiting' ? 'waiting for the first sample' : `${s.text}${way.samples > 0 ? `, ${formatCount(way.samples)} in all` : ''}${way.rejected ? `, ${formatCount(way.rejected)} refused` : ''}`}
        </span>
      </div>
      <p class="doc">{way.doc}</p>
      {way.lines.map((l) => (
        <div class="snippet" key={l.label}>
          <div class="snippet-label">{l.label}</div>
          <Code text={l.text} />
        </div>
      ))}
    </div>
  );
}

const FLEET_RANGE: Range = { live: true, span: 60_000 };
const REAL = 'fstype!~"tmpfs|devtmpfs|overlay|squashfs|ramfs|efivarfs"';
const FLEET = [
  '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m]))',
  '1 - sum by (instance) (node_memory_MemAvailable_bytes) / sum by (instance) (node_memory_MemTotal_bytes)',
  `max by (instance) (1 - node_filesystem_avail_bytes{${REAL}} / node_filesystem_size_bytes{${REAL}})`,
  'max by (instance) (node_load1)',
];
const FLEET_MAX = 200;

function newestBy(answer: Answer | null): Map<string, { value: number; labels: Labels }> {
  const out = new Map<string, { value: number; labels: Labels }>();
  for (const c of answer?.curves ?? []) {
    const value = c.values.at(-1);
    const key = c.labels['instance'];
    if (key !== undefined && value !== null && value !== undefined && (c.at.at(-1) ?? 0) > (answer?.to ?? 0) - 60_000) out.set(key, { value, labels: c.labels });
  }
  return out;
}

function Fleet() {
  const [uname, up] = useFeeds(['node_uname_info', 'up'], FLEET_RANGE);
  const hosts = newestBy(uname?.answer ?? null);
  const ups = newestBy(up?.answer ?? null);
  for (const [instance, x] of ups) if (!hosts.has(instance)) hosts.set(instance, x);
  const several = hosts.size > 1;
  const [cpu, memory, disk, load] = useFeeds(several ? FLEET : [], FLEET_RANGE).map((s) => newestBy(s.answer));
  if (!several) return null;
  const own = hostLabels.value?.['instance'];
  const list = [...hosts.entries()]
    .map(([instance, x]) => ({ instance, labels: x.labels, up: ups.get(instance)?.value ?? null }))
    .sort((a, b) => Number(b.up === 0) - Number(a.up === 0) || (a.instance < b.instance ? -1 : 1));
  const cell = (v: number | undefined) => (v === undefined ? <span class="faint">–</span> : <Meter share={v} label={formatValue(v, 'percent')} warn={0.8} bad={0.92} />);
  return (
    <section class="panel" aria-label="Hosts">
      <header>
        <h2>Hosts</h2>
        <span class="faint num">{list.length}</span>
      </header>
      <table class="table fleet">
        <thead>
          <tr>
            <th>Instance</th>
            <th class="hide-s">Kernel</th>
            <th>State</th>
            <th class="wide">CPU</th>
            <th class="wide">Memory</th>
            <th class="wide hide-s">Fullest disk</th>
            <th class="n hide-s">Load</th>
          </tr>
        </thead>
        <tbody>
          {list.slice(0, FLEET_MAX).map((h) => {
            const mine = h.instance === own;
            const to = mine ? link('/infra') : link('/infra', { host: h.instance });
            const watched = load?.has(h.instance) === true;
            return (
              <tr key={h.instance}>
                <td class="clip" title={h.instance}>
                  {watched ? (
                    <a
                      href={to}
                      onClick={(e) => {
                        if (e.ctrlKey || e.metaKey || e.shiftKey) return;
                        e.preventDefault();
                        go('/infra', mine ? {} : { host: h.instance });
                      }}
                    >
                      {h.instance}
                    </a>
                  ) : (
                    h.instance
                  )}
                  {mine && <span class="tag">this host</span>}
                </td>
                <td class="clip faint hide-s">{h.labels['release'] ?? ''}</td>
                <td>
                  <span class={`state ${h.up === 0 ? 'bad' : 'ok'}`}>
                    <i />
                    <span>{h.up === 0 ? 'down' : 'up'}</span>
                  </span>
                </td>
                <td>{cell(cpu?.get(h.instance)?.value)}</td>
                <td>{cell(memory?.get(h.instance)?.value)}</td>
                <td class="hide-s">{cell(disk?.get(h.instance)?.value)}</td>
                <td class="n hide-s">{formatValue(load?.get(h.instance)?.value, 'short')}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {list.length > FLEET_MAX && <p class="absent">{list.length - FLEET_MAX} more. Narrow in Explore with up{'{…}'}.</p>}
    </section>
  );
}
