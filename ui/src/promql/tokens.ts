/** PromQL as tokens: total (any text gives tokens that join to the same text), for colours and for completion. */
import { WORD_BY_NAME } from './words.ts';

export type Kind =
  | 'space' | 'comment' | 'function' | 'aggregation' | 'keyword' | 'metric' | 'label' | 'string' | 'number' | 'duration'
  | 'operator' | 'open' | 'close' | 'comma' | 'unknown';

export interface Token {
  kind: Kind;
  text: string;
  start: number;
  end: number;
}

const DURATION = /^(\d+(ms|[smhdwy]))+(?![a-zA-Z0-9_])/;
const NUMBER = /^(0[xX][0-9a-fA-F]+|(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)(?![a-zA-Z0-9_])/;
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const OPERATOR = /^(=~|!~|==|!=|<=|>=|[-+*/%^<>=@:])/;
/** After these a parenthesis lists label names. */
const LISTS = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);

/** Splits the text. Colours of names depend on where they stand: within braces and grouping lists they are labels. */
export function tokenize(text: string): Token[] {
  const out: Token[] = [];
  const stack: ('(' | '{' | '[' | 'list')[] = [];
  let i = 0;
  let before = '';
  const push = (kind: Kind, length: number): void => {
    const part = text.slice(i, i + length);
    out.push({ kind, text: part, start: i, end: i + length });
    i += length;
    if (kind !== 'space' && kind !== 'comment') before = part;
  };
  while (i < text.length) {
    const rest = text.slice(i, i + 4096);
    const c = rest.charAt(0);
    const inside = stack.at(-1);
    let m: RegExpExecArray | null;
    if ((m = /^\s+/.exec(rest))) push('space', m[0].length);
    else if (c === '#') push('comment', (/^[^\n]*/.exec(text.slice(i)) ?? [''])[0].length);
    else if (c === '"' || c === "'" || c === '`') push('string', stringLength(text, i));
    else if (c === '(') {
      stack.push(LISTS.has(before.toLowerCase()) ? 'list' : '(');
      push('open', 1);
    } else if (c === '{' || c === '[') {
      stack.push(c);
      push('open', 1);
    } else if (c === ')' || c === '}' || c === ']') {
      stack.pop();
      push('close', 1);
    } else if (c === ',') push('comma', 1);
    else if ((m = DURATION.exec(rest))) push('duration', m[0].length);
    else if ((m = NUMBER.exec(rest))) push('number', m[0].length);
    else if (inside === '[' && c === ':') push('operator', 1);
    else if ((m = NAME.exec(rest))) {
      const name = m[0];
      const low = name.toLowerCase();
      const word = WORD_BY_NAME.get(low);
      if (inside === '{' || inside === 'list') push('label', name.length);
      else if (low === 'inf' || low === 'nan') push('number', name.length);
      else if (low === 'offset' || low === 'start' || low === 'end') push('keyword', name.length);
      else if (word?.kind === 'keyword' && before !== '') push('keyword', name.length);
      else if (word?.kind === 'aggregation' && /^\s*(\(|by\b|without\b)/i.test(text.slice(i + name.length, i + name.length + 64))) push('aggregation', name.length);
      else if (word?.kind === 'function' && name === low && /^\s*\(/.test(text.slice(i + name.length, i + name.length + 64))) push('function', name.length);
      else push('metric', name.length);
    } else if ((m = OPERATOR.exec(rest)) || (m = /^!/.exec(rest))) push('operator', m[0].length);
    else push('unknown', rest.codePointAt(0)! > 0xffff ? 2 : 1);
  }
  return out;
}

function stringLength(text: string, start: number): number {
  const q = text[start];
  for (let i = start + 1; i < text.length; i += 1) {
    if (text[i] === '\\' && q !== '`') i += 1;
    else if (text[i] === q) return i + 1 - start;
    else if (text[i] === '\n' && q !== '`') return i - start;
  }
  return text.length - start;
}

/** Where `line:col:` of a parse error points, as [start, end) in the text; null when the message carries no position. */
export function errorSpan(message: string, text: string): { start: number; end: number } | null {
  const m = /(?:^|[\s"(])(\d+):(\d+):\s/.exec(message);
  if (!m) return null;
  const lines = text.split('\n');
  const line = Number(m[1]) - 1;
  const source = lines[line];
  if (source === undefined) return null;
  let start = 0;
  for (let i = 0; i < line; i += 1) start += (lines[i]?.length ?? 0) + 1;
  // Columns count bytes from 1; text here counts UTF-16 units.
  start += Math.min(unitsOf(source, Number(m[2]) - 1), source.length);
  const token = tokenize(text).find((t) => t.start <= start && start < t.end && t.kind !== 'space');
  if (token) return { start: token.start, end: token.end };
  return start >= text.length ? { start: Math.max(0, text.length - 1), end: text.length } : { start, end: start + 1 };
}

function unitsOf(line: string, bytes: number): number {
  let n = 0;
  let units = 0;
  for (const ch of line) {
    if (n >= bytes) break;
    const c = ch.codePointAt(0) ?? 0;
    n += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    units += ch.length;
  }
  return units;
}

/** Names of the metrics a query reads. */
export function metricsOf(text: string): string[] {
  return [...new Set(tokenize(text).filter((t) => t.kind === 'metric').map((t) => t.text))];
}
