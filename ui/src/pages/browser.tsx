/** What Explore shows before the first query: the metrics there are. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { formatCount } from '../format.ts';
import { likeness } from '../promql/complete.ts';
import { metadata, metadataOf, metricNames, type Metadata } from '../promql/names.ts';
import { Empty } from '../shell/parts.tsx';

const EXAMPLES: readonly { needs: string; name: string; expr: string }[] = [
  { needs: 'node_cpu_seconds_total', name: 'CPU by mode', expr: 'sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))' },
  { needs: 'node_memory_MemAvailable_bytes', name: 'Memory available', expr: 'node_memory_MemAvailable_bytes' },
  { needs: 'node_network_receive_bytes_total', name: 'Network in', expr: 'sum by (device) (rate(node_network_receive_bytes_total{device!="lo"}[1m]))' },
  { needs: 'overseer_agent_process_cpu_seconds_total', name: 'Top processes', expr: 'topk(5, rate(overseer_agent_process_cpu_seconds_total[1m]))' },
  { needs: 'up', name: 'What is up', expr: 'up' },
];

const ROW = 28;

/** A first query for a metric of that type. */
export function starter(name: string, type: string): string {
  if (/_bucket$/.test(name)) return `histogram_quantile(0.95, sum by (le) (rate(${name}[5m])))`;
  if (type === 'counter' || /_total$/.test(name)) return `rate(${name}[1m])`;
  return name;
}

export function Browser({ onPick }: { onPick: (expr: string) => void }) {
  const [names, setNames] = useState<readonly string[] | null>(null);
  const [meta, setMeta] = useState<ReadonlyMap<string, Metadata>>(new Map());
  const [error, setError] = useState<string | null>(null);
  const [filter, setFilter] = useState('');
  const [top, setTop] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    metricNames().then(setNames, (e: unknown) => setError(e instanceof Error ? e.message : String(e)));
    metadata().then(setMeta, () => undefined);
  }, []);
  const list = useMemo(() => {
    const t = filter.trim();
    if (names === null || t === '') return names ?? [];
    return names
      .map((n) => ({ n, s: Math.max(likeness(n, t), (metadataOf(meta, n)?.help ?? '').toLowerCase().includes(t.toLowerCase()) ? 50 : 0) }))
      .filter((x) => x.s > 0)
      .sort((a, b) => b.s - a.s)
      .map((x) => x.n);
  }, [names, filter, meta]);
  if (error !== null) return <div class="notice bad">{error}</div>;
  if (names === null) return null;
  if (names.length === 0) {
    return (
      <Empty
        title="No metrics yet"
        text="The agent's first samples arrive within ten seconds. To write one by hand:"
        command={`curl -X POST ${location.origin}/api/v1/metrics -d '{"name":"hello","value":1,"labels":{"from":"me"}}'`}
      />
    );
  }
  const has = new Set(names);
  const first = Math.max(0, Math.floor(top / ROW) - 6);
  const rows = list.slice(first, first + 60);
  return (
    <section class="browser" aria-label="Metrics">
      <div class="examples">
        {EXAMPLES.filter((e) => has.has(e.needs)).map((e) => (
          <button key={e.name} type="button" class="button" title={e.expr} onClick={() => onPick(e.expr)}>
            {e.name}
          </button>
        ))}
      </div>
      <div class="browser-head">
        <input
          value={filter}
          placeholder={`Find among ${formatCount(names.length)} metrics`}
          aria-label="Find a metric"
          spellcheck={false}
          autocomplete="off"
          onInput={(e) => {
            setFilter(e.currentTarget.value);
            if (box.current) box.current.scrollTop = 0;
          }}
          onKeyDown={(e) => {
            const best = list[0];
            if (e.key === 'Enter' && best) onPick(starter(best, metadataOf(meta, best)?.type ?? ''));
          }}
        />
      </div>
      <div class="browser-list" ref={box} onScroll={(e) => setTop(e.currentTarget.scrollTop)}>
        <div style={{ height: `${list.length * ROW}px`, position: 'relative' }}>
          {rows.map((n, i) => {
            const m = metadataOf(meta, n);
            return (
              <button key={n} type="button" class="browser-row" style={{ top: `${(first + i) * ROW}px`, height: `${ROW}px` }} title={m?.help ? `${n}\n${m.help}` : n} onClick={() => onPick(starter(n, m?.type ?? ''))}>
                <span class="browser-name">{n}</span>
                <span class="browser-type">{m?.type ?? ''}</span>
                <span class="browser-help hide-s">{m?.help ?? ''}</span>
              </button>
            );
          })}
        </div>
      </div>
      {list.length === 0 && <p class="absent">No metric matches "{filter.slice(0, 60)}".</p>}
    </section>
  );
}
