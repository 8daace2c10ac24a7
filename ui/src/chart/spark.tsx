/** A line without axes, for tiles and table rows. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import { dark } from '../state/prefs.ts';
import { faded, seriesColor } from './palette.ts';

interface Props {
  values: readonly (number | null)[];
  /** The value at the top edge; the largest value when absent. */
  top?: number;
  color?: number;
  height?: number;
}

export function Spark({ values, top, color = 0, height = 34 }: Props) {
  const ref = useRef<HTMLCanvasElement>(null);
  const isDark = dark.value;
  useLayoutEffect(() => {
    const canvas = ref.current;
    const width = canvas?.clientWidth ?? 0;
    const g = canvas?.getContext('2d');
    if (!canvas || !g || width === 0) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    g.scale(ratio, ratio);
    const max = Math.max(top ?? 0, ...values.map((v) => v ?? 0)) || 1;
    const x = (i: number) => (values.length < 2 ? width : (i / (values.length - 1)) * width);
    const y = (v: number) => height - 1 - (v / max) * (height - 3);
    const stroke = seriesColor(color, isDark);
    g.lineWidth = 1.5;
    g.lineJoin = 'round';
    let start = -1;
    const flush = (end: number): void => {
      if (start < 0) return;
      g.beginPath();
      for (let i = start; i < end; i += 1) g.lineTo(x(i), y(values[i] ?? 0));
      g.strokeStyle = stroke;
      g.stroke();
      g.lineTo(x(end - 1), height);
      g.lineTo(x(start), height);
      g.closePath();
      g.fillStyle = faded(stroke, 0.14);
      g.fill();
      start = -1;
    };
    values.forEach((v, i) => {
      if (v === null) flush(i);
      else if (start < 0) start = i;
    });
    flush(values.length);
  });
  return <canvas class="spark" ref={ref} aria-hidden="true" style={{ height: `${height}px` }} />;
}
