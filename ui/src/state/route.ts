/** The URL is the state: page, range, queries. Everything else derives from it. */
import { computed, signal } from '@preact/signals';
import { now } from './clock.ts';
import { decodeRange, encodeRange, MINUTE, SPAN_MAX, SPAN_MIN, windowOf, type Range } from './time.ts';

export interface Page {
  path: string;
  name: string;
  /** The second key of `g …`. */
  key: string;
  /** The window a page opens with when the link names none. */
  span: number;
  /** Whether the time picker has anything to say on this page. */
  timed: boolean;
}

export const PAGES: readonly Page[] = [
  { path: '/', name: 'Now', key: 'n', span: 5 * MINUTE, timed: false },
  { path: '/explore', name: 'Explore', key: 'e', span: 15 * MINUTE, timed: true },
  { path: '/infra', name: 'Infra', key: 'i', span: 5 * MINUTE, timed: true },
  { path: '/about', name: 'About', key: 'a', span: 15 * MINUTE, timed: false },
];

const here = signal(new URL(location.href));
addEventListener('popstate', () => {
  here.value = new URL(location.href);
});

export const path = computed(() => here.value.pathname.replace(/\/+$/, '') || '/');
export const params = computed(() => here.value.searchParams);
export const page = computed(() => PAGES.find((p) => p.path === path.value) ?? null);

const rangeText = computed(() => params.value.get('t'));
/** The window all charts of the page show. */
export const range = computed<Range>(() => decodeRange(rangeText.value) ?? { live: true, span: page.value?.span ?? 15 * MINUTE });

/** Escapes for a query part, leaving readable what may stand there. */
function escape(text: string): string {
  return encodeURIComponent(text).replace(/%(3A|2C|2F|40|24|3B)/gi, (m) => decodeURIComponent(m)).replace(/%20/g, '+');
}

export type Changes = Record<string, string | readonly string[] | null>;

/** A link to `to` (path) with changed query parts; parts not named are kept when the path stays the same. */
export function link(to: string, changes: Changes = {}): string {
  const parts: [string, string][] = [];
  const from = to === path.peek() ? [...params.peek()] : [...params.peek()].filter(([k]) => k === 't' && PAGES.some((p) => p.path === to && p.timed));
  for (const [k, v] of from) if (!(k in changes)) parts.push([k, v]);
  for (const [k, v] of Object.entries(changes)) {
    if (v === null) continue;
    for (const one of typeof v === 'string' ? [v] : v) parts.push([k, one]);
  }
  const query = parts.map(([k, v]) => `${k}=${escape(v)}`).join('&');
  return query ? `${to}?${query}` : to;
}

/** Goes there. A replaced entry leaves no step for the back button. */
export function go(to: string, changes: Changes = {}, replace = false): void {
  const href = link(to, changes);
  const next = new URL(href, location.href);
  if (next.href === here.peek().href) return;
  if (replace) window.history.replaceState(null, '', href);
  else window.history.pushState(null, '', href);
  const moved = next.pathname !== here.peek().pathname;
  here.value = next;
  if (moved) document.querySelector('main')?.scrollTo(0, 0);
}

/** Changes query parts of the page at hand. */
export function change(changes: Changes, replace = false): void {
  go(path.peek(), changes, replace);
}

export function setRange(next: Range): void {
  change({ t: encodeRange(next) });
}

/** A window picked by hand, kept within what can be shown. */
export function zoomTo(from: number, to: number): void {
  const mid = (from + to) / 2;
  const half = Math.min(SPAN_MAX, Math.max(SPAN_MIN, to - from)) / 2;
  // Whole seconds read better in the address and the time box.
  const from0 = Math.floor((mid - half) / 1000) * 1000;
  setRange({ live: false, from: from0, to: Math.max(from0 + SPAN_MIN, Math.ceil((mid + half) / 1000) * 1000) });
}

export function zoomOut(): void {
  const r = range.peek();
  if (r.live) setRange({ live: true, span: Math.min(SPAN_MAX, r.span * 2) });
  else zoomTo(r.from - (r.to - r.from) / 2, r.to + (r.to - r.from) / 2);
}

/** Moves the window by half its width: -1 back, +1 forward. */
export function shift(direction: -1 | 1): void {
  const { from, to } = windowOf(range.peek(), now());
  const by = ((to - from) / 2) * direction;
  zoomTo(from + by, to + by);
}

/** Live to still and back, keeping the width. */
export function toggleLive(): void {
  const r = range.peek();
  if (r.live) {
    const w = windowOf(r, now());
    setRange({ live: false, from: Math.round(w.from / 1000) * 1000, to: Math.round(w.to / 1000) * 1000 });
  } else {
    setRange({ live: true, span: r.to - r.from });
  }
}

/** The address of this very view with absolute times, for sharing. */
export function permalink(): string {
  const w = windowOf(range.peek(), now());
  const still: Range = { live: false, from: Math.round(w.from / 1000) * 1000, to: Math.round(w.to / 1000) * 1000 };
  return new URL(link(path.peek(), page.peek()?.timed ? { t: encodeRange(still) } : {}), location.href).href;
}
