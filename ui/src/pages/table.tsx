/** Instant answers as a table: a column for each label, the value exact. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import { distinguishing, formatCount, formatExact, type Labels } from '../format.ts';
import { explain, instant, type FeedState, type Row } from '../state/feed.ts';
import { range } from '../state/route.ts';
import { utc } from '../state/prefs.ts';
import { formatPoint } from '../state/time.ts';

const ROWS_MAX = 1000;
const COLUMNS_MAX = 10;

interface Props {
  exprs: readonly string[];
  states: readonly FeedState[];
  several: boolean;
  letters: string;
}

interface Shown {
  rows: { letter: string; row: Row }[];
  text: string[];
  error: string | null;
}

export function ResultTable({ exprs, states, several, letters }: Props) {
  const r = range.value;
  const at = r.live ? null : r.to;
  const [asked, setAsked] = useState<Shown | null>(null);
  const [sort, setSort] = useState<{ by: string; down: boolean } | null>(null);
  const key = `${exprs.join('\u0000')}@${at ?? 'live'}`;

  // Live values come with the pushed answer. Still windows, and queries that have no range answer (a range selector), are asked for.
  const refused = states.some((s) => s.error !== null);
  useEffect(() => {
    if (at === null && !refused) return;
    const abort = new AbortController();
    Promise.all(exprs.map((e) => (e === '' ? null : instant(e, at ?? Date.now(), abort.signal)))).then(
      (got) =>
        setAsked({
          rows: got.flatMap((g, i) => (g?.rows ?? []).map((row) => ({ letter: letters[i] ?? '', row }))),
          text: got.flatMap((g) => (g?.text === null || g?.text === undefined ? [] : [g.text])),
          error: null,
        }),
      (e: unknown) => !abort.signal.aborted && setAsked({ rows: [], text: [], error: e instanceof Error ? explain(e) : String(e) }),
    );
    return () => abort.abort();
  }, [key, refused]);

  const live = useMemo<Shown | null>(() => {
    if (at !== null || refused) return null;
    const rows = states.flatMap((s, i) =>
      exprs[i] === '' ? [] : (s.answer?.curves ?? []).flatMap((c) => {
        const [t, v] = [c.at.at(-1), c.values.at(-1)];
        return t === undefined || v === null || v === undefined || t < (s.answer?.to ?? 0) - 1 ? [] : [{ letter: letters[i] ?? '', row: { labels: c.labels, value: v, at: t } }];
      }),
    );
    return { rows, text: [], error: null };
  }, [at, refused, ...states.map((s) => s.answer)]);

  const shown = live ?? asked;
  if (shown === null) return <div class="none" />;
  // The query's own error already stands beside the query.
  if (shown.error !== null) return <div class="none">{refused ? 'No answer to list.' : shown.error}</div>;
  if (shown.text.length > 0) return <div class="none mono">{shown.text.join('\n')}</div>;
  if (shown.rows.length === 0) return <div class="none">The query is fine, but nothing matches at this time.</div>;

  const differing = new Set(distinguishing(shown.rows.map((x) => x.row.labels)));
  const names = shown.rows.length === 1 ? Object.keys(shown.rows[0]?.row.labels ?? {}) : [...differing];
  names.sort((a, b) => Number(b === '__name__') - Number(a === '__name__') || (a < b ? -1 : 1));
  const columns = names.slice(0, COLUMNS_MAX);
  const rest = names.slice(COLUMNS_MAX);
  const first: Labels = shown.rows[0]?.row.labels ?? {};
  const common = shown.rows.length > 1 ? Object.entries(first).filter(([k]) => !differing.has(k)) : [];
  const sorted = [...shown.rows];
  if (sort) {
    const sign = sort.down ? -1 : 1;
    sorted.sort((a, b) =>
      sort.by === '' ? sign * (a.row.value - b.row.value) : sign * (a.row.labels[sort.by] ?? '').localeCompare(b.row.labels[sort.by] ?? '', undefined, { numeric: true }),
    );
  }
  const head = (by: string, name: string, cls: string) => (
    <th class={cls} key={by} aria-sort={sort?.by === by ? (sort.down ? 'descending' : 'ascending') : 'none'}>
      <button type="button" class="sort" onClick={() => setSort(sort?.by === by ? { by, down: !sort.down } : { by, down: by === '' })}>
        {name}
        {sort?.by === by ? (sort.down ? ' ↓' : ' ↑') : ''}
      </button>
    </th>
  );
  return (
    <div class="result-table">
      <div class="legend-common">
        <span class="num">{formatPoint(Math.round((shown.rows[0]?.row.at ?? 0) / 1000) * 1000, utc.value, true)}</span>
        {common.map(([k, v]) => (k === '__name__' ? <b key={k}>{v}</b> : <span key={k}>{k}=<em>{v}</em></span>))}
      </div>
      <div class="scroll-x">
        <table class="table">
          <thead>
            <tr>
              {several && <th />}
              {columns.map((c) => head(c, c === '__name__' ? 'metric' : c, ''))}
              {rest.length > 0 && <th>more labels</th>}
              {head('', 'value', 'n')}
            </tr>
          </thead>
          <tbody>
            {sorted.slice(0, ROWS_MAX).map(({ letter, row }, i) => (
              <tr key={i}>
                {several && <td class="faint">{letter}</td>}
                {columns.map((c) => (
                  <td class="clip" key={c} title={row.labels[c]}>
                    {row.labels[c] ?? ''}
                  </td>
                ))}
                {rest.length > 0 && <td class="clip faint">{rest.filter((k) => k in row.labels).map((k) => `${k}=${row.labels[k]}`).join(' ')}</td>}
                <td class="n mono">{formatExact(row.value)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {sorted.length > ROWS_MAX && (
        <p class="absent">
          The first {formatCount(ROWS_MAX)} of {formatCount(sorted.length)} rows. Narrow with a matcher or topk(20, …).
        </p>
      )}
    </div>
  );
}
