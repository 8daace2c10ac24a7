/** What may stand at the caret: the context from the tokens, then the candidates in order of likeness. Pure. */
import { quote } from '../format.ts';
import { tokenize, type Token } from './tokens.ts';
import { WORDS } from './words.ts';

/** Where the caret is. `from`..`to` is the text a candidate replaces. */
export type Place = { from: number; to: number; typed: string } & (
  | { at: 'expression' }
  | { at: 'label'; metric: string | null; braces: boolean; taken: readonly string[] }
  | { at: 'value'; metric: string | null; label: string; quoted: boolean; matchers: readonly string[] }
  | { at: 'duration' }
  | { at: 'nothing' }
);

export interface Candidate {
  /** What is shown, and matched against what was typed. */
  label: string;
  kind: 'metric' | 'function' | 'aggregation' | 'keyword' | 'label' | 'value' | 'duration';
  /** What is put in. */
  insert: string;
  /** Caret position within `insert`; its end when absent. */
  caret?: number;
  note: string;
  doc: string;
}

const WORDLIKE = new Set(['metric', 'label', 'keyword', 'function', 'aggregation', 'number', 'duration', 'unknown']);

/** The place of the caret in the text. */
export function placeAt(text: string, caret: number): Place {
  const tokens = tokenize(text);
  const index = tokens.findIndex((t) => t.start < caret && caret <= t.end);
  const here = index >= 0 ? tokens[index] : undefined;
  const nothing: Place = { at: 'nothing', from: caret, to: caret, typed: '' };
  if (here?.kind === 'comment') return nothing;

  const upTo = index >= 0 ? tokens.slice(0, index) : [];
  const stack = openers(here && isBracket(here) ? [...upTo, here] : upTo, text);
  const opener = stack.at(-1);
  const wordy = here !== undefined && WORDLIKE.has(here.kind);
  const from = wordy ? here.start : caret;
  const typed = text.slice(from, caret);
  // Replace the whole word under the caret only when the caret is at its end; in the middle keep the tail.
  const to = wordy && caret === here.end ? here.end : caret;

  if (opener?.what === '{') {
    const before = lastSolid(upTo, here && !wordy && here.kind !== 'string' ? here : undefined);
    const label = labelBefore(tokens, index, here, caret);
    if (here?.kind === 'string') {
      const closed = here.text.length > 1 && here.text.endsWith(here.text.charAt(0)) && caret === here.end;
      if (closed || label === null) return nothing;
      const tail = here.text.length > 1 && here.text.endsWith(here.text.charAt(0)) ? here.end : caret;
      return { at: 'value', metric: opener.metric, label, quoted: true, matchers: matchersOf(tokens, opener, label), from: here.start, to: tail, typed: text.slice(here.start + 1, caret) };
    }
    if (label !== null && before?.kind === 'operator') {
      return { at: 'value', metric: opener.metric, label, quoted: false, matchers: matchersOf(tokens, opener, label), from, to, typed };
    }
    if (before?.kind === 'open' || before?.kind === 'comma') {
      return { at: 'label', metric: opener.metric, braces: true, taken: labelsIn(tokens, opener, here), from, to, typed };
    }
    return nothing;
  }
  if (here?.kind === 'string') return nothing;
  if (opener?.what === 'list') return { at: 'label', metric: opener.metric, braces: false, taken: labelsIn(tokens, opener, here), from, to, typed };
  if (opener?.what === '[') {
    return here?.kind === 'duration' && caret === here.end ? nothing : { at: 'duration', from, to, typed };
  }
  if (here?.kind === 'number' || here?.kind === 'duration') return nothing;
  if (here?.kind === 'close') return nothing;
  const solid = lastSolid(upTo, here && !wordy ? here : undefined);
  if (solid?.kind === 'keyword' && solid.text.toLowerCase() === 'offset') return { at: 'duration', from, to, typed };
  return { at: 'expression', from, to, typed };
}

function isBracket(t: Token): boolean {
  return t.kind === 'open' || t.kind === 'close';
}

interface Opener {
  what: '(' | '{' | '[' | 'list';
  /** Index of the opening token. */
  index: number;
  metric: string | null;
}

function openers(tokens: readonly Token[], text: string): Opener[] {
  const stack: Opener[] = [];
  tokens.forEach((t, index) => {
    if (t.kind === 'open') {
      const before = lastSolid(tokens.slice(0, index), undefined);
      if (t.text === '(') {
        const list = before !== undefined && /^(by|without|on|ignoring|group_left|group_right)$/i.test(before.text);
        stack.push({ what: list ? 'list' : '(', index, metric: list ? anyMetric(text) : null });
      } else {
        stack.push({ what: t.text === '{' ? '{' : '[', index, metric: before?.kind === 'metric' ? before.text : null });
      }
    } else if (t.kind === 'close') stack.pop();
  });
  return stack;
}

function anyMetric(text: string): string | null {
  return tokenize(text).find((t) => t.kind === 'metric')?.text ?? null;
}

function lastSolid(tokens: readonly Token[], last: Token | undefined): Token | undefined {
  if (last && last.kind !== 'space') return last;
  for (let i = tokens.length - 1; i >= 0; i -= 1) {
    const t = tokens[i];
    if (t && t.kind !== 'space' && t.kind !== 'comment') return t;
  }
  return undefined;
}

/** The label name whose value is being typed at the caret, if any. */
function labelBefore(tokens: readonly Token[], index: number, here: Token | undefined, caret: number): string | null {
  const solid = tokens.filter((t, i) => t.kind !== 'space' && t.kind !== 'comment' && (i < index || (i === index && here?.kind === 'operator' && caret === here.end)));
  const op = solid.at(-1);
  const name = solid.at(-2);
  if (op?.kind === 'operator' && (name?.kind === 'label' || name?.kind === 'string')) return name.kind === 'label' ? name.text : name.text.slice(1, -1);
  return null;
}

/** Tokens of the brace or list that the opener starts. */
function body(tokens: readonly Token[], opener: Opener): Token[] {
  const out: Token[] = [];
  for (let i = opener.index + 1; i < tokens.length; i += 1) {
    const t = tokens[i];
    if (!t || t.kind === 'close') break;
    if (t.kind !== 'space' && t.kind !== 'comment') out.push(t);
  }
  return out;
}

function labelsIn(tokens: readonly Token[], opener: Opener, here: Token | undefined): string[] {
  return body(tokens, opener).filter((t) => t.kind === 'label' && t !== here).map((t) => t.text);
}

/** The finished matchers of the braces but for the label at hand: they narrow its values. */
function matchersOf(tokens: readonly Token[], opener: Opener, but: string): string[] {
  const list = body(tokens, opener);
  const out: string[] = [];
  for (let i = 0; i + 2 < list.length; i += 1) {
    const [a, op, v] = [list[i], list[i + 1], list[i + 2]];
    if (a?.kind === 'label' && op?.kind === 'operator' && v?.kind === 'string' && a.text !== but && v.text.length > 1 && v.text.endsWith(v.text.charAt(0))) {
      out.push(a.text + op.text + v.text);
    }
  }
  return out;
}

/** How well `typed` fits `name`; higher is better, 0 is not at all. */
export function likeness(name: string, typed: string): number {
  if (typed === '') return 1;
  const n = name.toLowerCase();
  const t = typed.toLowerCase();
  if (n === t) return 1000;
  if (n.startsWith(t)) return 800 - Math.min(200, n.length);
  const part = n.search(new RegExp(`[_:./ -]${t.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`));
  if (part >= 0) return 500 - Math.min(100, part);
  const within = n.indexOf(t);
  if (within >= 0) return 300 - Math.min(100, within);
  // Letters in order, each at the start of a part or right after the one before: `nmb` finds node_memory_bytes.
  let at = -1;
  let runs = 0;
  for (const ch of t) {
    const next = n.indexOf(ch, at + 1);
    if (next < 0) return 0;
    if (next !== at + 1) runs += 1;
    at = next;
  }
  return runs <= Math.ceil(t.length / 2) + 1 ? 100 - Math.min(90, runs * 10 + n.length / 10) : 0;
}

export const CANDIDATES_MAX = 80;
/** Likeness at and above which the typed text stands in the name as it is. */
export const GOOD = 200;
/** The best likeness that letters in order, but apart, can have. */
export const SCATTERED = 100;

/** The best candidates in order. */
export function rank(all: readonly Candidate[], typed: string): Candidate[] {
  const scored: { c: Candidate; s: number }[] = [];
  for (const c of all) {
    const s = likeness(c.label, typed);
    if (s > 0) scored.push({ c, s });
  }
  // Scattered letters are a guess: with a good match at hand they are noise.
  const strong = scored.some((x) => x.s >= GOOD);
  const order = { label: 0, value: 0, duration: 0, aggregation: 1, function: 2, metric: 0, keyword: 3 } as const;
  const kept = strong ? scored.filter((x) => x.s > SCATTERED) : scored;
  kept.sort((a, b) => b.s - a.s || order[a.c.kind] - order[b.c.kind] || (a.c.label < b.c.label ? -1 : 1));
  return kept.slice(0, CANDIDATES_MAX).map((x) => x.c);
}

/** Functions, aggregations and keywords as candidates; the caret ends between the parentheses. */
export const WORD_CANDIDATES: readonly Candidate[] = WORDS.map((w) => {
  const call = w.kind !== 'keyword' || /^(by|without|on|ignoring|group_left|group_right)$/.test(w.name);
  const insert = call ? `${w.name}${w.kind === 'keyword' ? ' ' : ''}()` : `${w.name} `;
  return {
    label: w.name,
    kind: w.kind,
    insert,
    caret: call && !(w.kind === 'function' && w.args === '') ? insert.length - 1 : insert.length,
    note: w.kind === 'keyword' ? 'keyword' : `(${w.args})`,
    doc: w.doc,
  };
});

export const DURATION_CANDIDATES: readonly Candidate[] = ['1m', '5m', '10m', '30m', '1h', '6h', '1d', '7d'].map((d) => ({
  label: d, kind: 'duration', insert: d, note: '', doc: '',
}));

export function labelCandidate(name: string, inBraces: boolean): Candidate {
  return inBraces
    ? { label: name, kind: 'label', insert: `${name}=""`, caret: name.length + 2, note: 'label', doc: '' }
    : { label: name, kind: 'label', insert: name, note: 'label', doc: '' };
}

export function valueCandidate(value: string): Candidate {
  return { label: value, kind: 'value', insert: quote(value), note: '', doc: '' };
}
