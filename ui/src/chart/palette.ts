/** Series colours: distinct for the common forms of colour blindness, checked against both backgrounds. */

const DARK = ['#5aa5ff', '#f5a742', '#41cfa8', '#ee82b0', '#f2dc66', '#a796ff', '#f0705a', '#83d8f7', '#bccb74', '#d1a67c'];
const LIGHT = ['#1f6fd6', '#cc7000', '#00876c', '#c43f7d', '#9a7f00', '#6750cc', '#c63a20', '#1a8fbf', '#66752a', '#8a5f38'];

/** The colour of the nth series. */
export function seriesColor(n: number, dark: boolean): string {
  const list = dark ? DARK : LIGHT;
  return list[n % list.length] as string;
}

/** The colour with an alpha channel (0 to 1). */
export function faded(color: string, alpha: number): string {
  return color + Math.round(alpha * 255).toString(16).padStart(2, '0');
}

export interface ChartTheme {
  text: string;
  grid: string;
  font: string;
  background: string;
}

/** What the canvas needs to know of the style sheet. */
export function chartTheme(): ChartTheme {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return { text: read('--muted'), grid: read('--grid'), font: `11px ${read('--sans')}`, background: read('--surface') };
}
