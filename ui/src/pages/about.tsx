/** What this server is, and what it holds. */
import { useEffect, useState } from 'preact/hooks';
import { formatCount, formatUptime, formatValue } from '../format.ts';
import { get, prom, self } from '../state/api.ts';
import { tick } from '../state/clock.ts';
import { explain } from '../state/feed.ts';
import { utc } from '../state/prefs.ts';
import { go } from '../state/route.ts';
import { formatPoint } from '../state/time.ts';

interface Head {
  headStats?: { numSeries?: number; numLabelPairs?: number; chunkCount?: number; minTime?: number; maxTime?: number };
  seriesCountByMetricName?: { name: string; value: number }[];
  labelValueCountByLabelName?: { name: string; value: number }[];
}

interface Slow {
  slowMs: number;
  file: string | null;
  queries: { time: string; query: string; durationSeconds: number; samples: number; series: number; outcome: string; error?: string }[];
}

interface Budgets {
  seriesMax: number;
  metricSeriesMax: number;
  series: number;
  breaches: { metric: string; setting: string; refused: number; lastMs: number; detail: string }[];
}

export function About() {
  const [budgets, setBudgets] = useState<Budgets | null>(null);
  const [slow, setSlow] = useState<Slow | null>(null);
  const [stats, setStats] = useState<Head | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [schema, setSchema] = useState<Record<string, string> | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    prom<Head>('/api/v1/status/tsdb?limit=12', abort.signal).then(setStats, (e: unknown) => !abort.signal.aborted && setError(e instanceof Error ? explain(e) : String(e)));
    prom<Budgets>('/api/v1/status/cardinality', abort.signal).then(setBudgets, () => undefined);
    prom<Slow>('/api/v1/status/slow_queries', abort.signal).then(setSlow, () => undefined);
    get<{ data?: Record<string, string> }>('/api/v1/status/buildinfo', abort.signal).then((b) => setSchema(b.data ?? null), () => undefined);
    return () => abort.abort();
  }, []);
  const me = self.value;
  const head = stats?.headStats;
  const rows: [string, string][] = me
    ? [
        ['Version', [me.version, schema?.['revision']?.slice(0, 12)].filter(Boolean).join(' ')],
        ['Host', me.host],
        ['Roles in this process', me.roles.join(', ')],
        ['Listens on', me.listen],
        ['Data directory', me.data_dir],
        ['Login', me.auth === 'token' ? 'one token for people and senders' : 'none, and therefore loopback only'],
        ['Running for', formatUptime(tick.value - me.started_ms)],
        ['Started', formatPoint(me.started_ms - (me.started_ms % 1000), utc.value, true)],
      ]
    : [];
  if (head?.numSeries !== undefined) rows.push(['Series', formatCount(head.numSeries)]);
  if (budgets) rows.push(['Series budget', `${formatCount(budgets.seriesMax)}, of one metric ${formatCount(budgets.metricSeriesMax)}`]);
  if (head?.numLabelPairs !== undefined) rows.push(['Label pairs', formatCount(head.numLabelPairs)]);
  return (
    <div class="page about">
      <div class="page-head">
        <h1>About this Overseer</h1>
      </div>
      <section class="panel">
        <dl class="pairs">
          {rows.map(([k, v]) => (
            <div key={k}>
              <dt>{k}</dt>
              <dd>{v}</dd>
            </div>
          ))}
        </dl>
      </section>
      {error !== null && <div class="notice bad">{error}</div>}
      {budgets?.breaches.map((b) => (
        <div class="notice bad" key={b.metric + b.setting}>
          Series were refused: {b.detail}. {formatCount(b.refused)} so far, the last {formatPoint(b.lastMs - (b.lastMs % 1000), utc.value, true)}.
        </div>
      ))}
      <div class="tables">
        <Counts title="Series by metric" list={stats?.seriesCountByMetricName} onPick={(name) => go('/explore', { q: name })} />
        <Counts title="Values by label" list={stats?.labelValueCountByLabelName} onPick={(name) => go('/explore', { q: `topk(20, count by (${name}) ({${name}!=""}))`, tab: 'table' })} />
      </div>
      {slow && <SlowQueries slow={slow} />}
    </div>
  );
}

function SlowQueries({ slow }: { slow: Slow }) {
  return (
    <section class="panel slow" aria-label="Slow queries">
      <header>
        <h2>Slow queries</h2>
        <span class="muted">{slow.slowMs === 0 ? 'not noted (query.slow_ms is 0)' : `${formatValue(slow.slowMs / 1000, 'seconds')} and longer${slow.file === null ? '' : `; all are in ${slow.file}`}`}</span>
      </header>
      {slow.queries.length === 0 ? (
        <p class="panel-none">{slow.slowMs === 0 ? '' : 'None since the start.'}</p>
      ) : (
        <ul class="slow-list">
          {slow.queries.slice(0, 20).map((q) => (
            <li key={`${q.time} ${q.query}`}>
              <button type="button" class="as-link" title={q.query} onClick={() => go('/explore', { q: q.query, tab: 'inspect' })}>
                {q.query}
              </button>
              <span class="num">
                {formatValue(q.durationSeconds, 'seconds')}, {formatCount(q.samples)} samples, {formatCount(q.series)} series
              </span>
              <span class={q.outcome === 'ok' ? 'muted' : 'bad-text'} title={q.error}>
                {formatPoint(Date.parse(q.time), utc.value, true)} · {q.outcome}
              </span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Counts({ title, list, onPick }: { title: string; list: { name: string; value: number }[] | undefined; onPick: (name: string) => void }) {
  if (!list || list.length === 0) return null;
  const most = Math.max(1, ...list.map((x) => x.value));
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      <table class="table">
        <tbody>
          {list.map((x) => (
            <tr key={x.name}>
              <td class="clip">
                <button type="button" class="as-link" title={x.name} onClick={() => onPick(x.name)}>
                  {x.name}
                </button>
              </td>
              <td class="wide">
                <div class="meter fine">
                  <div class="meter-track">
                    <div class="meter-fill" style={{ width: `${(x.value / most) * 100}%` }} />
                  </div>
                </div>
              </td>
              <td class="n">{formatCount(x.value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
