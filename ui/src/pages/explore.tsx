/** Questions to the store: queries, their chart, their table. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Chart, type Line, type Plot } from '../chart/chart.tsx';
import { onGrid } from '../chart/grid.ts';
import { Legend, type Entry } from '../chart/legend.tsx';
import { unitOf } from '../chart/unit.ts';
import { distinguishing, formatCount, formatSeries, type Unit } from '../format.ts';
import { Editor } from '../promql/editor.tsx';
import { shownWindow, stepOf, useFeeds, type Curve, type FeedState } from '../state/feed.ts';
import { forgetAll, history, remember } from '../state/prefs.ts';
import { change, params, range } from '../state/route.ts';
import { formatSpan } from '../state/time.ts';
import { Icon } from '../shell/icons.tsx';
import { Tabs, useLate } from '../shell/parts.tsx';
import { Browser } from './browser.tsx';
import { Inspector } from './inspect.tsx';
import { ResultTable } from './table.tsx';

/** More lines than this tell nothing and cost much. */
const DRAWN_MAX = 500;
const QUERIES_MAX = 8;
const LETTERS = 'ABCDEFGH';

interface Row {
  id: number;
  text: string;
}

type Tab = 'chart' | 'table' | 'inspect';
const tabOf = (text: string | null): Tab => (text === 'table' || text === 'inspect' ? text : 'chart');

let rowId = 0;
const row = (text: string): Row => ({ id: (rowId += 1), text });

export function Explore() {
  const inUrl = params.value.getAll('q').slice(0, QUERIES_MAX);
  const urlKey = inUrl.join('\u0000');
  const [rows, setRows] = useState<Row[]>(() => (inUrl.length > 0 ? inUrl.map(row) : [row('')]));
  const [turn, setTurn] = useState(0);
  const written = useRef(urlKey);
  const off = params.value.get('off') ?? '';
  const tab = tabOf(params.value.get('tab'));
  const stacked = params.value.get('style') === 'stack';

  // The back button and links change the queries from outside.
  useEffect(() => {
    if (urlKey !== written.current) {
      written.current = urlKey;
      setRows(inUrl.length > 0 ? inUrl.map(row) : [row('')]);
    }
  }, [urlKey]);

  const write = (next: Row[], offNow = off): void => {
    const list = next.map((r) => r.text.trim());
    const filled = list.some((q) => q !== '');
    const key = filled ? list.join('\u0000') : '';
    const same = key === written.current && offNow === off;
    written.current = key;
    if (same) setTurn((t) => t + 1);
    else change({ q: filled ? list : null, off: offNow === '' ? null : offNow });
  };
  const edit = (id: number, text: string): Row[] => {
    const next = rows.map((r) => (r.id === id ? { ...r, text } : r));
    setRows(next);
    return next;
  };
  const remove = (i: number): void => {
    const next = rows.filter((_, n) => n !== i);
    // Letters after the removed one move up.
    const letters = [...LETTERS].filter((l) => off.includes(l)).map((l) => LETTERS.indexOf(l)).filter((n) => n !== i).map((n) => LETTERS[n > i ? n - 1 : n]).join('');
    const kept = next.length > 0 ? next : [row('')];
    setRows(kept);
    write(kept, letters);
  };
  const pick = (expr: string): void => {
    const next = [row(expr)];
    setRows(next);
    write(next, '');
  };

  const exprs = inUrl.map((q, i) => (off.includes(LETTERS[i] ?? '') ? '' : q.trim()));
  const r = range.value;
  const states = useFeeds(exprs, r, turn, remember);
  const running = states.some((s) => s.since !== null);
  const since = running ? Math.min(...states.filter((s) => s.since !== null).map((s) => s.since as number)) : null;
  const late = useLate(since);
  const asked = exprs.some((e) => e !== '');
  const dirty = rows.map((x) => x.text.trim()).join('\u0000') !== urlKey && rows.some((x) => x.text.trim() !== '');

  return (
    <div class="page explore">
      <section class="queries" aria-label="Queries">
        {rows.map((x, i) => {
          const letter = LETTERS[i] ?? '?';
          const isOff = off.includes(letter);
          const ran = exprs[i] !== undefined && inUrl[i]?.trim() === x.text.trim();
          const error = ran ? (states[i]?.error ?? null) : null;
          return (
            <div class={isOff ? 'query off' : 'query'} key={x.id}>
              <button
                type="button"
                class="letter"
                aria-pressed={!isOff}
                title={isOff ? `Switch ${letter} on` : `Switch ${letter} off`}
                onClick={() => write(rows, isOff ? off.replace(letter, '') : off + letter)}
              >
                {letter}
              </button>
              <div class="query-main">
                <Editor
                  name={letter}
                  value={x.text}
                  error={error}
                  placeholder={i === 0 ? 'PromQL, for example: sum by (mode) (rate(node_cpu_seconds_total[1m]))' : 'Another query'}
                  autofocus={i === rows.length - 1 && (x.text === '' || rows.length > 1) && !asked}
                  onChange={(text) => edit(x.id, text)}
                  onRun={(text) => write(edit(x.id, text))}
                />
                {error !== null && (
                  <div class="query-error" role="alert">
                    {error.replace(/^invalid parameter "query": /, '')}
                  </div>
                )}
                {ran && (states[i]?.answer?.warnings ?? []).concat(states[i]?.answer?.infos ?? []).slice(0, 4).map((w) => (
                  <div class="query-warning" key={w}>
                    {w}
                  </div>
                ))}
              </div>
              {(rows.length > 1 || x.text !== '') && (
                <button type="button" class="button icon-only quiet" aria-label={`Remove query ${letter}`} title={rows.length > 1 ? `Remove ${letter}` : 'Clear'} onClick={() => remove(i)}>
                  <Icon name="close" />
                </button>
              )}
            </div>
          );
        })}
        <div class="query-bar">
          <button type="button" class={dirty ? 'button primary' : 'button'} onClick={() => write(rows)} disabled={rows.every((x) => x.text.trim() === '')}>
            <Icon name="run" />
            Run
          </button>
          <button type="button" class="button quiet" onClick={() => setRows([...rows, row('')])} disabled={rows.length >= QUERIES_MAX}>
            <Icon name="plus" />
            Add query
          </button>
          <Past onPick={(q) => {
            const empty = rows.findIndex((x) => x.text.trim() === '');
            const next = empty >= 0 ? rows.map((x, i) => (i === empty ? { ...x, text: q } : x)) : rows.map((x, i) => (i === rows.length - 1 ? { ...x, text: q } : x));
            setRows(next);
            write(next);
          }} />
          <div class="bar-space" />
          {asked && <Stats states={states} step={stepOf(r)} />}
        </div>
      </section>
      {asked ? (
        <Results key="results" states={states} tab={tab} stacked={stacked} late={late} exprs={exprs} turn={turn} />
      ) : (
        <Browser onPick={pick} />
      )}
    </div>
  );
}

function Stats({ states, step }: { states: readonly FeedState[]; step: number }) {
  let series = 0;
  let points = 0;
  let ms: number | null = null;
  for (const s of states) {
    if (!s.answer) continue;
    series += s.answer.curves.length;
    for (const c of s.answer.curves) points += c.at.length;
    if (s.answer.ms !== null) ms = Math.max(ms ?? 0, s.answer.ms);
  }
  if (states.every((s) => s.answer === null)) return null;
  return (
    <div class="stats num" data-stats>
      <span>{formatCount(series)} series</span>
      <span class="hide-s">{formatCount(points)} points</span>
      {ms !== null && <span>{ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms</span>}
      <span class="hide-s">step {formatSpan(step)}</span>
    </div>
  );
}

function Past({ onPick }: { onPick: (q: string) => void }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (e: Event): void => {
      if (e.target instanceof Node && !box.current?.contains(e.target)) setOpen(false);
    };
    const esc = (e: KeyboardEvent): void => {
      if (e.key === 'Escape') setOpen(false);
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('keydown', esc);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('keydown', esc);
    };
  }, [open]);
  return (
    <div class="past" ref={box}>
      <button type="button" class="button quiet" aria-expanded={open} onClick={() => setOpen(!open)} disabled={history.value.length === 0}>
        <Icon name="history" />
        History
      </button>
      {open && (
        <div class="menu past-menu">
          {history.value.map((q) => (
            <button
              key={q}
              type="button"
              class="past-row"
              title={q}
              onClick={() => {
                setOpen(false);
                onPick(q);
              }}
            >
              {q}
            </button>
          ))}
          <button
            type="button"
            class="past-clear"
            onClick={() => {
              forgetAll();
              setOpen(false);
            }}
          >
            Forget all
          </button>
        </div>
      )}
    </div>
  );
}

interface Item {
  letter: string;
  curve: Curve;
  key: string;
}

function peak(c: Curve): number {
  let m = Number.NEGATIVE_INFINITY;
  for (const v of c.values) if (v !== null && Math.abs(v) > m) m = Math.abs(v);
  return m;
}

function Results({ states, tab, stacked, late, exprs, turn }: { states: readonly FeedState[]; tab: Tab; stacked: boolean; late: boolean; exprs: readonly string[]; turn: number }) {
  const r = range.value;
  const several = exprs.filter((e) => e !== '').length > 1;
  const [only, setOnly] = useState<ReadonlySet<string>>(new Set());
  const [hover, setHover] = useState<string | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const answers = states.map((s) => s.answer);

  const model = useMemo(() => {
    const all: Item[] = answers.flatMap((a, i) =>
      exprs[i] === '' ? [] : (a?.curves ?? []).filter((c) => c.at.length > 0).map((curve): Item => ({ letter: LETTERS[i] ?? '?', curve, key: `${i} ${curve.key}` })),
    );
    const total = all.length;
    let list = all;
    if (total > DRAWN_MAX) {
      const kept = new Set(all.map((x) => ({ x, p: peak(x.curve) })).sort((a, b) => b.p - a.p).slice(0, DRAWN_MAX).map((y) => y.x));
      list = all.filter((x) => kept.has(x));
    }
    const step = Math.max(1, ...answers.map((a) => a?.step ?? 0));
    const grid = onGrid(list.map((x) => x.curve), step);
    const differing = new Set(distinguishing(list.map((x) => x.curve.labels)));
    const common: Record<string, string> = {};
    const first = list[0]?.curve.labels ?? {};
    for (const [k, v] of Object.entries(first)) if (!differing.has(k)) common[k] = v;
    const entries = list.map((x, i): Entry & { column: (number | null)[]; item: Item } => {
      const own: Record<string, string> = {};
      for (const [k, v] of Object.entries(x.curve.labels)) if (list.length === 1 || differing.has(k)) own[k] = v;
      const name = Object.keys(x.curve.labels).length === 0 ? (exprs[LETTERS.indexOf(x.letter)] ?? '{}') : Object.keys(own).length === 0 ? formatSeries(x.curve.labels) : formatSeries(own);
      return { key: x.key, color: i, name: several ? `${x.letter}  ${name}` : name, full: formatSeries(x.curve.labels), values: x.curve.values, column: grid.columns[i] ?? [], item: x };
    });
    return { total, at: grid.at, entries, common: list.length > 1 ? common : {} };
  }, [...answers, exprs.join('\u0000')]);

  const unit = useMemo((): Unit => {
    const units = new Set(exprs.filter((e) => e !== '').map(unitOf));
    return units.size === 1 ? ([...units][0] as Unit) : 'short';
  }, [exprs.join('\u0000')]);

  // Isolation names series; those that are gone with a new query do not hold it.
  const isolated = useMemo(() => model.entries.filter((e) => only.has(e.key)), [model, only]);
  const visible = isolated.length > 0 ? isolated : model.entries;
  const plot = useMemo<Plot>(
    () => ({ at: model.at, lines: visible.map((e): Line => ({ key: e.key, label: e.name, color: e.color })), columns: visible.map((e) => e.column) }),
    [model, visible],
  );
  const view = shownWindow(r, states);
  const failed = states.some((s) => s.error !== null);
  const answered = states.some((s) => s.answer !== null);
  const toggle = (key: string, add: boolean): void => {
    const next = new Set(add ? only : []);
    if (only.has(key)) {
      if (add) next.delete(key);
      else if (only.size > 1) next.add(key);
    } else next.add(key);
    setOnly(next);
  };

  return (
    <section class={late ? 'results waiting' : 'results'} aria-busy={late}>
      <div class="results-head">
        <Tabs value={tab} all={[['chart', 'Chart'], ['table', 'Table'], ['inspect', 'Inspect']]} onPick={(t) => change({ tab: t === 'chart' ? null : t, node: null })} />
        {model.total > DRAWN_MAX && tab === 'chart' && (
          <span class="cap">
            Drawing the {DRAWN_MAX} largest of {formatCount(model.total)} series. Narrow with a matcher or topk(20, …).
          </span>
        )}
        <div class="bar-space" />
        {tab === 'chart' && (
          <Tabs value={stacked ? 'stack' : 'lines'} all={[['lines', 'Lines'], ['stack', 'Stacked']]} onPick={(t) => change({ style: t === 'stack' ? 'stack' : null })} />
        )}
      </div>
      {tab === 'inspect' ? (
        <Inspector exprs={exprs} letters={LETTERS} turn={turn} />
      ) : tab === 'table' ? (
        <ResultTable exprs={exprs} states={states} several={several} letters={LETTERS} />
      ) : (
        <>
          <div class="chart-box">
            {plot.lines.length > 0 || (!answered && !failed) ? (
              plot.lines.length > 0 && (
                <Chart plot={plot} from={view.from} to={view.to} unit={unit} height={chartHeight()} stacked={stacked} onCursor={setCursor} focus={hover} label={`Chart of ${exprs.filter((e) => e !== '').join('; ')}`} />
              )
            ) : (
              <div class="none">
                {failed ? 'No answer to draw: see the message at the query.' : 'The query is fine, but nothing matches in this window.'}
                {!failed && (
                  <button type="button" class="button" onClick={() => change({ t: '1d' })}>
                    Look at the last day
                  </button>
                )}
              </div>
            )}
          </div>
          {model.entries.length > 0 && (
            <Legend
              entries={model.entries}
              unit={unit}
              only={isolated.length > 0 ? only : null}
              common={model.common}
              cursor={cursor !== null && plot.at[cursor] !== undefined ? { at: plot.at[cursor] as number, row: cursor, columns: new Map(model.entries.map((e) => [e.key, e.column])) } : null}
              onPick={toggle}
              onHover={setHover}
            />
          )}
        </>
      )}
    </section>
  );
}

function chartHeight(): number {
  return Math.max(220, Math.min(440, Math.round(window.innerHeight * 0.4)));
}

