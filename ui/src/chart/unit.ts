/** The unit of a query's values, guessed from the names of its metrics. Pure. */
import type { Unit } from '../format.ts';
import { tokenize } from '../promql/tokens.ts';

const RATES = new Set(['rate', 'irate', 'deriv', 'idelta']);
const KEEP_NOTHING = new Set(['count', 'count_values', 'group', 'count_over_time', 'changes', 'resets', 'absent', 'absent_over_time', 'present_over_time', 'sgn', 'ln', 'log2', 'log10', 'exp', 'histogram_fraction', 'histogram_count', 'stdvar', 'stdvar_over_time', 'bool']);

/** The unit; `short` where the query gives no sure answer. */
export function unitOf(expr: string): Unit {
  const tokens = tokenize(expr).filter((t) => t.kind !== 'space' && t.kind !== 'comment');
  const metrics = tokens.filter((t) => t.kind === 'metric').map((t) => t.text);
  const calls = tokens.filter((t) => t.kind === 'function' || t.kind === 'aggregation' || t.kind === 'keyword').map((t) => t.text);
  if (calls.some((c) => KEEP_NOTHING.has(c))) return 'short';
  if (calls.includes('timestamp')) return 'short';
  if (tokens.some((t, i) => t.kind === 'operator' && /^[*/%^]$/.test(t.text) && i > 0)) return 'short';
  if (metrics.length === 0) return 'short';
  const rate = calls.some((c) => RATES.has(c));
  const kinds = new Set(metrics.map((m) => kindOf(m, calls)));
  if (kinds.size !== 1) return 'short';
  switch ([...kinds][0]) {
    case 'bytes':
      return rate ? 'bytes/s' : 'bytes';
    case 'seconds':
      if (calls.includes('histogram_quantile') || calls.includes('histogram_avg')) return 'seconds';
      // Seconds per second is a share of time.
      return rate ? 'percent' : 'seconds';
    case 'ratio':
      return rate ? 'short' : 'percent';
    default:
      return rate && !calls.includes('histogram_quantile') ? 'per_s' : 'short';
  }
}

function kindOf(metric: string, calls: readonly string[]): string {
  if (/_count$/.test(metric)) return '';
  if (/_bucket$/.test(metric) && !calls.includes('histogram_quantile')) return '';
  const base = metric.replace(/_(total|sum|bucket)$/, '');
  if (/(^|_)bytes$/.test(base)) return 'bytes';
  // A time stamp in seconds is not a length of time.
  if (/(timestamp|start_time|boot_time)(_seconds)?$/.test(base) || base === 'node_time_seconds') return '';
  if (/(^|_)seconds$/.test(base)) return 'seconds';
  if (/(^|_)ratio$/.test(base)) return 'ratio';
  return '';
}
