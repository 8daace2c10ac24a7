/** Keys that work on every page. Fields keep their own keys, but for Ctrl-K. */
import { go, page, PAGES, shift, toggleLive, zoomOut } from '../state/route.ts';
import { paletteOpen } from './palette.tsx';
import { openPicker } from './picker.tsx';
import { sheetOpen } from './sheet.tsx';

let prefix = 0;
const PREFIX_MS = 1200;

function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function act(key: string): boolean {
  const timed = page.peek()?.timed === true;
  switch (key) {
    case '?':
      sheetOpen.value = true;
      return true;
    case 'g':
      prefix = performance.now();
      return true;
    case '/': {
      const field = document.querySelector<HTMLElement>('[data-focus="query"]');
      if (field) field.focus();
      else go('/explore');
      return true;
    }
  }
  if (!timed) return false;
  switch (key) {
    case 't':
      openPicker();
      return true;
    case 'l':
      toggleLive();
      return true;
    case '[':
      shift(-1);
      return true;
    case ']':
      shift(1);
      return true;
    case 'z':
      zoomOut();
      return true;
  }
  return false;
}

/** Installs the handler for the life of the page. */
export function installKeys(): void {
  document.addEventListener('keydown', (e) => {
    if ((e.ctrlKey || e.metaKey) && !e.shiftKey && !e.altKey && e.key.toLowerCase() === 'k') {
      e.preventDefault();
      sheetOpen.value = false;
      paletteOpen.value = !paletteOpen.value;
      return;
    }
    if (e.ctrlKey || e.metaKey || e.altKey || inField(e.target) || paletteOpen.value || sheetOpen.value) return;
    if (performance.now() - prefix < PREFIX_MS) {
      prefix = 0;
      const to = PAGES.find((p) => p.key === e.key);
      if (to) {
        e.preventDefault();
        go(to.path);
        return;
      }
    }
    if (act(e.key)) e.preventDefault();
  });
}
