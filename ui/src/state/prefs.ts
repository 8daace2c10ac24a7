/** What belongs to this browser and not to a link: theme, zone, query history. */
import { computed, effect, signal } from '@preact/signals';

const PREFIX = 'overseer.';

function read(key: string): string | null {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + key, value);
  } catch {
    // Full or forbidden storage loses a preference, nothing else.
  }
}

export type Theme = 'system' | 'dark' | 'light';

const stored = read('theme');
export const theme = signal<Theme>(stored === 'dark' || stored === 'light' ? stored : 'system');

const media = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(media.matches);
media.addEventListener('change', (e) => {
  systemDark.value = e.matches;
});

/** The theme in force. */
export const dark = computed(() => theme.value === 'dark' || (theme.value === 'system' && systemDark.value));

// Set at once and outside of an effect's batch, so that charts which read colours afterwards see the new ones.
effect(() => {
  document.documentElement.dataset['theme'] = dark.value ? 'dark' : 'light';
});

export function setTheme(next: Theme): void {
  write('theme', next);
  theme.value = next;
}

export function cycleTheme(): void {
  const order: Theme[] = ['system', 'dark', 'light'];
  setTheme(order[(order.indexOf(theme.value) + 1) % order.length] ?? 'system');
}

/** Times in UTC instead of the zone of this machine. */
export const utc = signal(read('zone') === 'utc');

export function setUtc(on: boolean): void {
  write('zone', on ? 'utc' : 'local');
  utc.value = on;
}

const HISTORY_MAX = 60;

function readHistory(): string[] {
  try {
    const list: unknown = JSON.parse(read('queries') ?? '[]');
    return Array.isArray(list) ? list.filter((x): x is string => typeof x === 'string').slice(0, HISTORY_MAX) : [];
  } catch {
    return [];
  }
}

/** Queries run in this browser, newest first. */
export const history = signal<readonly string[]>(readHistory());

export function remember(expr: string): void {
  const text = expr.trim();
  if (text === '' || history.value[0] === text) return;
  history.value = [text, ...history.value.filter((q) => q !== text)].slice(0, HISTORY_MAX);
  write('queries', JSON.stringify(history.value));
}

export function forgetAll(): void {
  history.value = [];
  write('queries', '[]');
}

/** First-run cards the person has put away. */
export const introHidden = signal(read('intro') === 'hidden');

export function setIntroHidden(hidden: boolean): void {
  write('intro', hidden ? 'hidden' : 'shown');
  introHidden.value = hidden;
}
