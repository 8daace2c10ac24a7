/** Numbers and names as people read them. Pure functions. */

export type Unit = 'short' | 'percent' | 'bytes' | 'bytes/s' | 'bits/s' | 'seconds' | 'per_s';

const SI = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** Three significant digits without an exponent or trailing zeros. */
function digits(v: number): string {
  const a = Math.abs(v);
  if (a === 0) return '0';
  const places = a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(a)));
  const text = v.toFixed(places);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function scaled(v: number, base: number, names: readonly string[], gap: string): string {
  let i = 0;
  let a = Math.abs(v);
  // 999.5 would print as 1000: step up just before.
  while (a >= base * 0.9995 && i < names.length - 1) {
    a /= base;
    i += 1;
  }
  return `${digits(Math.sign(v) * a)}${names[i] === '' ? '' : gap}${names[i]}`;
}

function seconds(v: number): string {
  const a = Math.abs(v);
  if (a === 0) return '0 s';
  if (a < 1e-6) return `${digits(v * 1e9)} ns`;
  if (a < 1e-3) return `${digits(v * 1e6)} µs`;
  if (a < 1) return `${digits(v * 1e3)} ms`;
  if (a < 120) return `${digits(v)} s`;
  if (a < 7200) return `${digits(v / 60)} min`;
  if (a < 172800) return `${digits(v / 3600)} h`;
  return `${digits(v / 86400)} d`;
}

/** A value in its unit, about three digits: `1.24 GiB`, `37.2 %`, `12.5k`. */
export function formatValue(v: number | null | undefined, unit: Unit): string {
  if (v === null || v === undefined) return '–';
  if (Number.isNaN(v)) return 'NaN';
  if (!Number.isFinite(v)) return v > 0 ? '+Inf' : '−Inf';
  const text = finite(v, unit);
  return text.startsWith('-') ? `−${text.slice(1)}` : text;
}

function finite(v: number, unit: Unit): string {
  const a = Math.abs(v);
  switch (unit) {
    case 'percent':
      // Hundredths of a percent are noise everywhere this unit is used.
      return `${a >= 0.1 ? digits(v * 100) : String(Math.round(v * 10000) / 100)} %`;
    case 'bytes':
      return scaled(v, 1024, IEC, ' ');
    case 'bytes/s':
      return `${scaled(v, 1024, IEC, ' ')}/s`;
    case 'bits/s':
      return `${scaled(v, 1000, SI, ' ')}${a >= 1000 ? '' : ' '}bit/s`;
    case 'seconds':
      return seconds(v);
    case 'per_s':
      return `${tiny(v)}/s`;
    case 'short':
      return tiny(v);
  }
}

function tiny(v: number): string {
  const a = Math.abs(v);
  if (a > 0 && a < 1e-4) return v.toExponential(2);
  if (a >= 1e21) return v.toExponential(2);
  return scaled(v, 1000, SI, '');
}

/** The exact value as PromQL prints it, for tables and copying. */
export function formatExact(v: number): string {
  if (Number.isNaN(v)) return 'NaN';
  if (!Number.isFinite(v)) return v > 0 ? '+Inf' : '-Inf';
  return String(v);
}

/** Group digits: 12 345 678 with thin spaces, so that tables align. */
export function formatCount(n: number): string {
  return String(Math.round(n)).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** `just now`, `3 s ago`, `5 min ago`, `2 h ago`, `4 d ago`. */
export function formatAge(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < 1) return 'just now';
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

/** `3d 4h`, `12 min`: a duration in its two largest parts. */
export function formatUptime(ms: number): string {
  const m = Math.floor(ms / 60000);
  if (m < 1) return `${Math.max(0, Math.floor(ms / 1000))} s`;
  if (m < 60) return `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h}h ${m % 60}m`;
  return `${Math.floor(h / 24)}d ${h % 24}h`;
}

export type Labels = Readonly<Record<string, string>>;

/** `name{a="b"}` with escapes as PromQL writes them; `{}` for no labels. */
export function formatSeries(labels: Labels): string {
  const name = labels['__name__'] ?? '';
  const rest = Object.entries(labels)
    .filter(([k]) => k !== '__name__')
    .map(([k, v]) => `${labelName(k)}=${quote(v)}`);
  if (rest.length === 0) return name === '' ? '{}' : name;
  return `${name}{${rest.join(', ')}}`;
}

function labelName(k: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(k) ? k : quote(k);
}

/** A PromQL string literal. */
export function quote(v: string): string {
  return `"${v.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;
}

/** A stable key for a label set, whatever the order of its labels. */
export function seriesKey(labels: Labels): string {
  return Object.keys(labels)
    .sort()
    .map((k) => `${k}\u0001${labels[k]}`)
    .join('\u0002');
}

/** The labels on which the series differ, or all but the name when there is only one series. */
export function distinguishing(all: readonly Labels[]): string[] {
  const seen = new Map<string, Set<string>>();
  for (const labels of all) for (const [k, v] of Object.entries(labels)) (seen.get(k) ?? seen.set(k, new Set()).get(k)!).add(v);
  const out: string[] = [];
  for (const [k, values] of seen) {
    const everywhere = all.every((l) => k in l);
    if (values.size > 1 || !everywhere) out.push(k);
  }
  return out;
}
