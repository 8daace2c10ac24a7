/** The plan of an explained query, as lines to show. Pure functions. */

export interface PlanSelector {
  matchers: string;
  /** Unix seconds. */
  from: number;
  to: number;
  wants: string;
  series: number;
  findSeconds: number;
  chunks: number;
  chunkSamples: number;
  bytes: number;
  headSamples: number;
  /** Read from rollups, and how many samples these stand for. */
  rollupSamples: number;
  rolledSamples: number;
  files: number;
  filesPrunedByTime: number;
  filesPrunedByIndex: number;
}

export interface PlanNode {
  what: string;
  name?: string;
  text: string;
  /** Bytes in the query's text. */
  start: number;
  end: number;
  how: string;
  once?: boolean;
  steps: number;
  seconds: number;
  ownSeconds: number;
  seriesIn: number;
  seriesOut: number;
  samples: number;
  bytes: number;
  selector?: PlanSelector;
  children: PlanNode[];
}

export interface Totals {
  series: number;
  samples: number;
  bytes: number;
  chunks: number;
  headSamples: number;
  /** Read from rollups, and how many samples these stand for. */
  rollupSamples: number;
  rolledSamples: number;
  files: number;
  filesPrunedByTime: number;
  filesPrunedByIndex: number;
  peakBytes: number;
  threads: number;
  parseSeconds: number;
  queueSeconds: number;
  prepareSeconds: number;
  evalSeconds: number;
  sortSeconds: number;
  serialiseSeconds: number;
}

export interface Explained {
  plan: PlanNode | null;
  totals: Totals;
}

export interface Line {
  node: PlanNode;
  depth: number;
  /** Place in the tree: child numbers with dots between. */
  path: string;
}

/** Lines of the tree from the root down; constants stay in the text of the node above. */
export function rowsOf(plan: PlanNode | null): Line[] {
  const rows: Line[] = [];
  const add = (node: PlanNode, depth: number, path: string): void => {
    rows.push({ node, depth, path });
    node.children.forEach((c, i) => {
      if (c.how !== 'constant') add(c, depth + 1, path === '' ? String(i) : `${path}.${i}`);
    });
  };
  if (plan) add(plan, 0, '');
  return rows;
}

/** A node's own part of the query: what is below stands as `…`. */
export function labelOf(node: PlanNode, expr: string): string {
  const below = node.children.filter((c) => c.how !== 'constant').sort((a, b) => a.start - b.start);
  const bytes = new TextEncoder().encode(expr);
  if (node.end <= node.start || node.end > bytes.length) return node.text || [node.what, node.name].filter(Boolean).join(' ');
  const text = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, Math.max(from, to)));
  let label = '';
  let at = node.start;
  for (const child of below) {
    label += `${text(at, child.start)}…`;
    at = Math.max(at, child.end);
  }
  return (label + text(at, node.end)).replace(/\s+/g, ' ').trim();
}

/** The phases of a query in the order they happen. */
export function phases(t: Totals): { key: string; name: string; seconds: number }[] {
  const rest = Math.max(0, t.evalSeconds - t.prepareSeconds - t.sortSeconds);
  return [
    { key: 'parse', name: 'parse', seconds: t.parseSeconds },
    { key: 'queue', name: 'wait', seconds: t.queueSeconds },
    { key: 'find', name: 'find series', seconds: t.prepareSeconds },
    { key: 'eval', name: 'read and evaluate', seconds: rest },
    { key: 'sort', name: 'sort', seconds: t.sortSeconds },
    { key: 'write', name: 'write', seconds: t.serialiseSeconds },
  ];
}
