/** The table under a chart: one row per line with its figures. Only rows in view are in the document. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { formatCount, formatValue, type Labels, type Unit } from '../format.ts';
import { dark, utc } from '../state/prefs.ts';
import { formatClock } from '../state/time.ts';
import type { Column } from './chart.tsx';
import { summarize, type Summary } from './grid.ts';
import { seriesColor } from './palette.ts';

export interface Entry {
  key: string;
  color: number;
  name: string;
  full: string;
  values: readonly (number | null)[];
}

interface Props {
  entries: readonly Entry[];
  unit: Unit;
  only: ReadonlySet<string> | null;
  /** Labels that all series share, said once. */
  common: Labels;
  cursor: { at: number; row: number; columns: ReadonlyMap<string, Column> } | null;
  onPick: (key: string, add: boolean) => void;
  onHover: (key: string | null) => void;
}

const ROW = 24;
const SHOWN = 12;
const HEAD = 28;
type Sort = 'name' | keyof Summary;

export function Legend({ entries, unit, only, common, cursor, onPick, onHover }: Props) {
  const [sort, setSort] = useState<{ by: Sort; down: boolean } | null>(null);
  const [top, setTop] = useState(0);
  const body = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => {
    const list = entries.map((e) => ({ e, s: summarize(e.values) }));
    if (sort) {
      const sign = sort.down ? -1 : 1;
      list.sort((a, b) => {
        if (sort.by === 'name') return sign * a.e.name.localeCompare(b.e.name, undefined, { numeric: true });
        const [x, y] = [a.s[sort.by], b.s[sort.by]];
        return x === null ? 1 : y === null ? -1 : sign * (x - y);
      });
    }
    return list;
  }, [entries, sort]);
  useEffect(() => {
    if (body.current && body.current.scrollTop > rows.length * ROW) body.current.scrollTop = 0;
  }, [rows.length]);

  const first = Math.max(0, Math.floor(top / ROW) - 4);
  const shown = rows.slice(first, first + SHOWN + 10);
  const head = (by: Sort, name: string, cls: string) => (
    <button
      type="button"
      class={`${cls} sort`}
      aria-pressed={sort?.by === by}
      onClick={() => setSort(sort?.by === by ? (sort.down === (by !== 'name') ? { by, down: !sort.down } : null) : { by, down: by !== 'name' })}
    >
      {name}
      {sort?.by === by ? (sort.down ? ' ↓' : ' ↑') : ''}
    </button>
  );
  const shared = Object.entries(common).filter(([k]) => k !== '__name__');
  return (
    <div class="legend">
      {(shared.length > 0 || common['__name__']) && (
        <div class="legend-common" title="labels that all series share">
          {common['__name__'] && <b>{common['__name__']}</b>}
          {shared.map(([k, v]) => (
            <span key={k}>
              {k}=<em>{v}</em>
            </span>
          ))}
        </div>
      )}
      <div class="legend-body" ref={body} style={{ maxHeight: `${HEAD + SHOWN * ROW}px` }} onScroll={(e) => setTop(e.currentTarget.scrollTop)} onMouseLeave={() => onHover(null)}>
        <div class="legend-head">
          {head('name', entries.length === 1 ? 'Series' : `${formatCount(entries.length)} series`, 'legend-name')}
          {head('last', cursor ? formatClock(cursor.at, utc.value) : 'last', 'n')}
          {head('min', 'min', 'n hide-s')}
          {head('max', 'max', 'n hide-s')}
          {head('avg', 'avg', 'n hide-s')}
        </div>
        <div style={{ height: `${rows.length * ROW}px`, position: 'relative' }}>
          {shown.map(({ e, s }, i) => {
            const dim = only !== null && !only.has(e.key);
            return (
              <button
                key={e.key}
                type="button"
                class={dim ? 'legend-row dim' : 'legend-row'}
                style={{ top: `${(first + i) * ROW}px`, height: `${ROW}px` }}
                title={`${e.full}\nClick: only this. Ctrl-click: add or remove.`}
                onClick={(ev) => onPick(e.key, ev.ctrlKey || ev.metaKey || ev.shiftKey)}
                onMouseEnter={() => onHover(e.key)}
                onFocus={() => onHover(e.key)}
              >
                <span class="legend-name">
                  <i style={{ background: seriesColor(e.color, dark.value) }} />
                  <span>{e.name}</span>
                </span>
                <span class="n">{formatValue(cursor ? (cursor.columns.get(e.key)?.[cursor.row] ?? null) : s.last, unit)}</span>
                <span class="n hide-s">{formatValue(s.min, unit)}</span>
                <span class="n hide-s">{formatValue(s.max, unit)}</span>
                <span class="n hide-s">{formatValue(s.avg, unit)}</span>
              </button>
            );
          })}
        </div>
      </div>
    </div>
  );
}
