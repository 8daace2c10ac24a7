/** What a query did: its plan as a tree, with time, series, samples and bytes of each node. */
import { useEffect, useState } from 'preact/hooks';
import { formatCount, formatValue } from '../format.ts';
import { ApiError, query } from '../state/api.ts';
import { now } from '../state/clock.ts';
import { explain, stepOf } from '../state/feed.ts';
import { change, params, range } from '../state/route.ts';
import { utc } from '../state/prefs.ts';
import { formatPoint, type Range } from '../state/time.ts';
import { labelOf, phases, rowsOf, type Explained, type Line, type PlanSelector } from '../promql/plan.ts';
import { Icon } from '../shell/icons.tsx';

interface Asked {
  explain: Explained | null;
  error: string | null;
  notes: string[];
}

async function ask(expr: string, r: Range, signal: AbortSignal): Promise<Asked> {
  const step = stepOf(r);
  const [from, to] = r.live ? [now() - r.span, now()] : [r.from, r.to];
  const form = { query: expr, explain: '1' };
  const window = { start: String((Math.floor(from / step) * step) / 1000), end: String((Math.floor(to / step) * step) / 1000), step: String(step / 1000) };
  try {
    const got = await query('/api/v1/query_range', { ...form, ...window }, signal).catch((e: unknown) => {
      // A range vector or a string has no answer over a window, only at its end.
      if (e instanceof ApiError && e.message.includes('invalid expression type')) return query('/api/v1/query', { ...form, time: String(to / 1000) }, signal);
      throw e;
    });
    return { explain: (got.data as { explain?: Explained }).explain ?? null, error: null, notes: [...got.warnings, ...got.infos] };
  } catch (e) {
    return { explain: null, error: e instanceof Error ? explain(e) : String(e), notes: [] };
  }
}

export function Inspector({ exprs, letters, turn }: { exprs: readonly string[]; letters: string; turn: number }) {
  const r = range.value;
  const [asked, setAsked] = useState<(Asked | null)[]>([]);
  const [again, setAgain] = useState(0);
  const rangeKey = r.live ? `live ${r.span}` : `${r.from} ${r.to}`;
  useEffect(() => {
    const abort = new AbortController();
    void Promise.all(exprs.map((e) => (e === '' ? null : ask(e, r, abort.signal)))).then((got) => {
      if (!abort.signal.aborted) setAsked(got);
    });
    return () => abort.abort();
  }, [exprs.join('\u0000'), rangeKey, turn, again]);
  const several = exprs.filter((e) => e !== '').length > 1;
  return (
    <div class="inspect">
      <div class="inspect-head">
        <p>{r.live ? 'Measured once, for the window up to now.' : 'Measured once, for the window shown.'}</p>
        <button type="button" class="button quiet" onClick={() => setAgain((n) => n + 1)}>
          <Icon name="run" />
          Measure again
        </button>
      </div>
      {exprs.map((expr, i) => {
        const got = asked[i];
        if (expr === '' || !got) return null;
        return <One key={letters[i]} letter={letters[i] ?? ''} named={several} expr={expr} got={got} />;
      })}
    </div>
  );
}

function One({ letter, named, expr, got }: { letter: string; named: boolean; expr: string; got: Asked }) {
  const open = params.value.get('node');
  const pick = (key: string): void => change({ node: open === key ? null : key });
  return (
    <section class="inspected" aria-label={`Inspection of query ${letter}`}>
      {named && <h2 class="inspected-name">{letter}</h2>}
      {got.error !== null && (
        <div class="query-error" role="alert">
          {got.error}
        </div>
      )}
      {got.notes.map((n) => (
        <div class="query-warning" key={n}>
          {n}
        </div>
      ))}
      {got.explain && (
        <>
          <Totals explained={got.explain} />
          {got.explain.plan && <Tree letter={letter} expr={expr} explained={got.explain} open={open} onPick={pick} />}
        </>
      )}
    </section>
  );
}

function Totals({ explained }: { explained: Explained }) {
  const t = explained.totals;
  const parts = phases(t);
  const all = parts.reduce((sum, p) => sum + p.seconds, 0);
  const read = t.files - t.filesPrunedByTime - t.filesPrunedByIndex;
  const figures: [string, string, string?][] = [
    ['Time', formatValue(all, 'seconds')],
    ['Series', formatCount(t.series)],
    ['Samples', formatCount(t.samples), t.rollupSamples > 0 ? `${formatCount(t.rollupSamples)} from rollups instead of ${formatCount(t.rolledSamples)}` : t.headSamples > 0 ? `${formatCount(t.headSamples)} from memory` : undefined],
    ['Decoded', formatValue(t.bytes, 'bytes'), `${formatCount(t.chunks)} chunks`],
    ['Files read', `${formatCount(read)} of ${formatCount(t.files)}`, `passed over: ${formatCount(t.filesPrunedByTime)} by time, ${formatCount(t.filesPrunedByIndex)} by index`],
    ['Memory', formatValue(t.peakBytes, 'bytes'), t.threads === 1 ? '1 thread' : `up to ${t.threads} threads`],
  ];
  return (
    <>
      <dl class="figures">
        {figures.map(([name, value, more]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="num">{value}</dd>
            {more && <dd class="more">{more}</dd>}
          </div>
        ))}
      </dl>
      <div class="phases" role="img" aria-label={parts.map((p) => `${p.name} ${formatValue(p.seconds, 'seconds')}`).join(', ')}>
        <div class="phase-bar">
          {parts.map((p) => (
            <div key={p.key} class={`phase ${p.key}`} style={{ flexGrow: all > 0 ? p.seconds / all : 0 }} />
          ))}
        </div>
        <ul class="phase-names">
          {parts.map((p) => (
            <li key={p.key}>
              <i class={`phase ${p.key}`} />
              {p.name} <span class="num">{formatValue(p.seconds, 'seconds')}</span>
            </li>
          ))}
        </ul>
      </div>
    </>
  );
}

function Tree({ letter, expr, explained, open, onPick }: { letter: string; expr: string; explained: Explained; open: string | null; onPick: (key: string) => void }) {
  const rows = rowsOf(explained.plan);
  const whole = Math.max(1e-9, explained.plan?.seconds ?? 0);
  const move = (e: KeyboardEvent): void => {
    const by = e.key === 'ArrowDown' ? 1 : e.key === 'ArrowUp' ? -1 : 0;
    if (by === 0 || !(e.currentTarget instanceof HTMLElement)) return;
    const all = [...e.currentTarget.querySelectorAll<HTMLElement>('.node-row')];
    const at = all.indexOf(document.activeElement as HTMLElement);
    all[Math.max(0, Math.min(all.length - 1, at + by))]?.focus();
    e.preventDefault();
  };
  return (
    <div class="plan" onKeyDown={move}>
      <div class="plan-head" aria-hidden="true">
        <span>Node</span>
        <span>Time, and its own part</span>
        <span class="n">Series</span>
        <span class="n">Samples</span>
        <span class="n">Bytes</span>
      </div>
      <ul>
        {rows.map((row) => {
          const key = `${letter}${row.path}`;
          const n = row.node;
          const isOpen = open === key;
          return (
            <li key={key} class={n.how === 'not evaluated' ? 'idle' : ''}>
              <button type="button" class="node-row" aria-expanded={isOpen} aria-level={row.depth + 1} onClick={() => onPick(key)}>
                <span class="node-text" style={{ paddingLeft: `${Math.min(row.depth, 12) * 14}px` }} title={n.text}>
                  {labelOf(n, expr)}
                </span>
                <span class="node-time">
                  <span class="node-track">
                    <span class="node-total" style={{ width: share(n.seconds, whole) }} />
                    <span class="node-own" style={{ width: share(n.ownSeconds, whole) }} />
                  </span>
                  <span class="num">{formatValue(n.seconds, 'seconds')}</span>
                </span>
                <span class="n num" data-name="series">{formatCount(n.seriesOut)}</span>
                <span class="n num" data-name="samples">{formatCount(n.samples)}</span>
                <span class="n num" data-name="bytes">{formatValue(n.bytes, 'bytes')}</span>
              </button>
              {isOpen && <Details row={row} />}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function share(part: number, whole: number): string {
  return `${Math.max(0, Math.min(1, part / whole)) * 100}%`;
}

const HOW: Record<string, string> = {
  streamed: 'series by series, none kept',
  folded: 'each series goes into its group as soon as it is there',
  collected: 'all series are held at once',
  constant: 'known before',
  'not evaluated': 'the answer did not need it',
};

function Details({ row }: { row: Line }) {
  const n = row.node;
  const pairs: [string, string][] = [
    ['Is', [n.what, n.name].filter(Boolean).join(' ')],
    ['Evaluated', `${n.how}: ${HOW[n.how] ?? ''}${n.once ? '; at the first step only, then repeated' : ''}`],
    ...(n.steps > 0 ? [['Steps', formatCount(n.steps)] as [string, string]] : []),
    ['Own time', `${formatValue(n.ownSeconds, 'seconds')} of ${formatValue(n.seconds, 'seconds')}`],
    ['Series', `${formatCount(n.seriesIn)} in, ${formatCount(n.seriesOut)} out`],
  ];
  return (
    <dl class="pairs node-details">
      {[...pairs, ...(n.selector ? ofSelector(n.selector) : [])].map(([k, v]) => (
        <div key={k}>
          <dt>{k}</dt>
          <dd>{v}</dd>
        </div>
      ))}
    </dl>
  );
}

function ofSelector(s: PlanSelector): [string, string][] {
  const read = s.files - s.filesPrunedByTime - s.filesPrunedByIndex;
  return [
    ['Matchers', s.matchers],
    ['Reads', `${s.wants === 'last sample' ? 'the last sample' : 'all samples'} from ${formatPoint(s.from * 1000, utc.value, true)} to ${formatPoint(s.to * 1000, utc.value, true)}`],
    ['Found', `${formatCount(s.series)} series in ${formatValue(s.findSeconds, 'seconds')}`],
    ['Files', `${formatCount(read)} of ${formatCount(s.files)} read; passed over: ${formatCount(s.filesPrunedByTime)} by time, ${formatCount(s.filesPrunedByIndex)} by index`],
    ['Chunks', `${formatCount(s.chunks)} decoded, ${formatCount(s.chunkSamples)} samples, ${formatValue(s.bytes, 'bytes')}`],
    ['From memory', `${formatCount(s.headSamples)} samples that are not in files yet`],
    ...(s.rollupSamples > 0 ? [['From rollups', `${formatCount(s.rollupSamples)} samples instead of ${formatCount(s.rolledSamples)}`] as [string, string]] : []),
  ];
}
