/** A time series chart: uPlot with the zoom, cursor and tooltip of this UI. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { formatPoint } from '../state/time.ts';
import { dark, utc } from '../state/prefs.ts';
import { zoomOut, zoomTo } from '../state/route.ts';
import { formatValue, type Unit } from '../format.ts';
import { sameDay, timeMarks, timeSplits, TIME_STEPS, valueMarks, valueRange, valueSteps } from './axis.ts';
import { chartTheme, faded, seriesColor } from './palette.ts';

export type Column = (number | null)[];

export interface Line {
  key: string;
  label: string;
  /** Place in the palette. */
  color: number;
}

/** Times in Unix ms, one column of values per line. */
export interface Plot {
  at: number[];
  lines: Line[];
  columns: Column[];
}

interface Props {
  plot: Plot;
  from: number;
  to: number;
  unit: Unit;
  height: number;
  stacked?: boolean;
  /** The value axis reaches at least from `floor` to `ceil`. */
  floor?: number | null;
  ceil?: number | null;
  /** Told the row under the cursor, or null when the cursor leaves. */
  onCursor?: (row: number | null) => void;
  /** The line to bring forward. */
  focus?: string | null;
  label: string;
  /** Width of the value axis; as wide as its marks when absent. */
  axisWidth?: number;
}

const SYNC = 'overseer';
const TIP_ROWS = 12;
/** Beyond this many lines, hovering does not single one out: redrawing them all would lag. */
const FOCUS_MAX = 120;

interface View {
  from: number;
  to: number;
  unit: Unit;
  floor: number | null;
  ceil: number | null;
  plot: Plot;
  onCursor: ((row: number | null) => void) | undefined;
}

export function Chart(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const view = useRef<View>(null as unknown as View);
  view.current = {
    from: props.from, to: props.to, unit: props.unit, floor: props.floor ?? null, ceil: props.ceil ?? null, plot: props.plot, onCursor: props.onCursor,
  };
  const stacked = props.stacked === true && props.plot.lines.length > 1;
  const shape = `${dark.value}|${utc.value}|${stacked}|${props.unit}|${props.plot.lines.map((l) => `${l.key}\u0001${l.color}\u0001${l.label}`).join('\u0002')}`;

  useLayoutEffect(() => {
    const el = host.current;
    if (!el) return;
    const u = make(el, view, stacked, props.height, props.axisWidth ?? null);
    chart.current = u;
    const watch = new ResizeObserver(() => {
      const width = el.clientWidth;
      if (width > 0 && width !== u.width) u.setSize({ width, height: u.height });
    });
    watch.observe(el);
    return () => {
      watch.disconnect();
      u.destroy();
      chart.current = null;
    };
  }, [shape]);

  const drawn = useRef<{ plot: Plot; from: number; to: number; shape: string } | null>(null);
  useLayoutEffect(() => {
    const u = chart.current;
    if (!u) return;
    const d = drawn.current;
    const same = d && d.shape === shape && d.plot === props.plot && d.from === props.from && d.to === props.to;
    if (!same && d?.shape === shape) u.setData(aligned(props.plot, stacked));
    drawn.current = { plot: props.plot, from: props.from, to: props.to, shape };
  });

  useEffect(() => {
    if (chart.current && chart.current.height !== props.height) chart.current.setSize({ width: chart.current.width, height: props.height });
  }, [props.height]);

  useEffect(() => {
    const u = chart.current;
    if (!u || props.plot.lines.length > FOCUS_MAX) return;
    const i = props.focus ? props.plot.lines.findIndex((l) => l.key === props.focus) : -1;
    u.setSeries(i >= 0 ? i + 1 : null, { focus: true });
  }, [props.focus, shape]);

  return <div class="chart" ref={host} role="img" aria-label={props.label} style={{ height: `${props.height}px` }} />;
}

/** Columns as uPlot wants them: seconds first; stacked columns are running sums. */
function aligned(plot: Plot, stacked: boolean): uPlot.AlignedData {
  const at = plot.at.map((t) => t / 1000);
  if (!stacked) return [at, ...plot.columns];
  const sums: Column[] = [];
  plot.columns.forEach((col, i) => {
    const below = sums[i - 1];
    sums.push(at.map((_, row) => {
      const v = col[row];
      const b = below?.[row];
      return v === null || v === undefined ? (b ?? null) : v + (b ?? 0);
    }));
  });
  return [at, ...sums];
}

/** Points with no neighbour would draw no line: they get a dot. */
function lonely(u: uPlot, index: number): number[] {
  const data = u.data[index] as Column;
  const out: number[] = [];
  for (let i = 0; i < data.length; i += 1) {
    if (data[i] !== null && data[i] !== undefined && data[i - 1] == null && data[i + 1] == null) out.push(i);
  }
  return out;
}

function make(el: HTMLElement, view: { current: View }, stacked: boolean, height: number, axisWidth: number | null): uPlot {
  const theme = chartTheme();
  const isDark = dark.peek();
  const inUtc = utc.peek();
  const { plot } = view.current;
  const many = plot.lines.length > 40;
  const series: uPlot.Series[] = plot.lines.map((line, i) => {
    const color = seriesColor(line.color, isDark);
    const one: uPlot.Series = {
      label: line.label,
      stroke: color,
      width: many ? 1 : stacked ? 1 : 1.5,
      points: many ? { show: false } : { show: true, size: 4, width: 0, fill: color, filter: (u, si) => lonely(u, si) },
    };
    if (stacked && i === 0) one.fill = faded(color, isDark ? 0.5 : 0.45);
    if (!stacked && plot.lines.length === 1) one.fill = faded(color, 0.1);
    return one;
  });
  const bands: uPlot.Band[] = stacked
    ? plot.lines.slice(1).map((line, i) => ({ series: [i + 2, i + 1] as [number, number], fill: faded(seriesColor(line.color, isDark), isDark ? 0.5 : 0.45) }))
    : [];
  const options: uPlot.Options = {
    width: Math.max(60, el.clientWidth),
    height,
    padding: [8, 10, 0, 0],
    pxAlign: 1,
    legend: { show: false },
    focus: { alpha: many ? 0.15 : 0.25 },
    cursor: {
      sync: { key: SYNC, setSeries: false, scales: ['x', null] },
      drag: { x: true, y: false, setScale: false, dist: 6 },
      points: { size: 6, width: 1.5, show: !many && plot.lines.length <= 16 },
      ...(plot.lines.length <= FOCUS_MAX && !stacked ? { focus: { prox: 18 } } : {}),
      bind: {
        dblclick: () => () => {
          zoomOut();
          return null;
        },
      },
    },
    scales: {
      x: { time: true, range: () => [view.current.from / 1000, view.current.to / 1000] },
      y: {
        range: (_u, lo, hi) => {
          const v = view.current;
          return valueRange(lo, hi, v.floor ?? (stacked ? 0 : null), v.ceil);
        },
      },
    },
    axes: [
      {
        stroke: theme.text, font: theme.font, size: () => (sameDay(view.current.from, view.current.to, inUtc) ? 24 : 36), gap: 6, space: 76, incrs: TIME_STEPS,
        grid: { stroke: theme.grid, width: 1 }, ticks: { show: false },
        splits: (_u, _i, min, max, step) => timeSplits(min, max, step, inUtc),
        values: (_u, splits, _i, _s, step) => timeMarks(splits, step, inUtc, !sameDay(view.current.from, view.current.to, inUtc)),
      },
      {
        stroke: theme.text, font: theme.font, gap: 6, space: 28, incrs: valueSteps(view.current.unit),
        grid: { stroke: theme.grid, width: 1 }, ticks: { show: false },
        size: (_u, values) => axisWidth ?? Math.max(46, 16 + 6.6 * Math.max(0, ...(values ?? []).map((v) => v?.length ?? 0))),
        values: (_u, splits) => valueMarks(splits, view.current.unit),
      },
    ],
    series: [{}, ...series],
    bands,
    hooks: {
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 6) return;
          const from = u.posToVal(left, 'x') * 1000;
          const to = u.posToVal(left + width, 'x') * 1000;
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoomTo(from, to);
        },
      ],
    },
  };
  const u = new uPlot(options, aligned(plot, stacked), el);
  tooltip(u, view, isDark, stacked);
  return u;
}

/** The box at the cursor: values of the row, largest first, the one nearest the pointer in bold. Text nodes only. */
function tooltip(u: uPlot, view: { current: View }, isDark: boolean, stacked: boolean): void {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  u.over.append(tip);
  let hovering = false;
  let near: number | null = null;
  u.over.addEventListener('mouseenter', () => {
    hovering = true;
  });
  u.over.addEventListener('mouseleave', () => {
    hovering = false;
    tip.hidden = true;
    view.current.onCursor?.(null);
  });
  (u.hooks.setSeries ??= []).push((_u: uPlot, i: number | null) => {
    near = i;
  });
  (u.hooks.setCursor ??= []).push(() => {
    const row = u.cursor.idx ?? null;
    const left = u.cursor.left ?? -1;
    const { plot, unit, onCursor } = view.current;
    if (row === null || left < 0) {
      tip.hidden = true;
      onCursor?.(null);
      return;
    }
    onCursor?.(row);
    if (!hovering || u.select.width > 0) {
      tip.hidden = true;
      return;
    }
    const rows = plot.lines
      .map((line, i) => ({ line, i, v: plot.columns[i]?.[row] }))
      .filter((r): r is { line: Line; i: number; v: number } => r.v !== null && r.v !== undefined);
    if (rows.length === 0) {
      tip.hidden = true;
      return;
    }
    const nearest = near !== null ? near - 1 : nearestLine(u, rows, stacked);
    rows.sort((a, b) => b.v - a.v);
    const at = rows.findIndex((r) => r.i === nearest);
    const start = Math.max(0, Math.min(at - Math.floor(TIP_ROWS / 2), rows.length - TIP_ROWS));
    const time = document.createElement('div');
    time.className = 'tip-time';
    time.textContent = formatPoint(plot.at[row] ?? 0, utc.peek(), true);
    const parts: HTMLElement[] = [time];
    for (const r of rows.slice(start, start + TIP_ROWS)) {
      const div = document.createElement('div');
      div.className = r.i === nearest && rows.length > 1 ? 'tip-row tip-near' : 'tip-row';
      const dot = document.createElement('i');
      dot.style.background = seriesColor(r.line.color, isDark);
      const name = document.createElement('span');
      name.textContent = r.line.label;
      const value = document.createElement('b');
      value.textContent = formatValue(r.v, unit);
      div.append(dot, name, value);
      parts.push(div);
    }
    if (rows.length > TIP_ROWS) {
      const more = document.createElement('div');
      more.className = 'tip-more';
      more.textContent = `${rows.length - TIP_ROWS} more`;
      parts.push(more);
    }
    tip.replaceChildren(...parts);
    tip.hidden = false;
    const width = u.over.clientWidth;
    const box = tip.offsetWidth;
    const x = left + 16 + box > width ? Math.max(-40, left - 16 - box) : left + 16;
    const y = Math.max(-4, Math.min((u.cursor.top ?? 0) - 20, u.over.clientHeight - tip.offsetHeight + 24));
    tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  });
}

/** The line nearest the pointer; of stacked lines the one whose band the pointer is in. */
function nearestLine(u: uPlot, rows: readonly { i: number }[], stacked: boolean): number {
  const top = u.cursor.top ?? 0;
  const row = u.cursor.idx ?? 0;
  let best = -1;
  let distance = Number.POSITIVE_INFINITY;
  for (const r of rows) {
    const v = (u.data[r.i + 1] as Column)[row];
    if (v === null || v === undefined) continue;
    const pos = u.valToPos(v, 'y');
    if (stacked && pos > top) continue;
    const d = Math.abs(pos - top);
    if (d < distance) {
      distance = d;
      best = r.i;
    }
  }
  return best;
}
