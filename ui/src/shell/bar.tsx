/** The rail on the left and the bar on top. */
import { cycleTheme, setUtc, theme, utc } from '../state/prefs.ts';
import { liveState } from '../state/live.ts';
import { reachable } from '../state/api.ts';
import { go, link, page, PAGES, range, shift, toggleLive, zoomOut } from '../state/route.ts';
import { Icon, type IconName } from './icons.tsx';
import { Copy } from './parts.tsx';
import { paletteOpen } from './palette.tsx';
import { Picker } from './picker.tsx';
import { permalink } from '../state/route.ts';

const ICONS: Record<string, IconName> = { '/': 'now', '/explore': 'explore', '/infra': 'infra', '/about': 'about' };

function follow(e: MouseEvent, to: string): void {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return;
  e.preventDefault();
  go(to);
}

export function Rail() {
  return (
    <nav class="rail" aria-label="Pages">
      <a class="mark" href="/" onClick={(e) => follow(e, '/')} aria-label="Overseer">
        <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
          <path class="mark-ring" d="M16 4.500a11.500 11.500 0 1 0 11.500 11.500" />
          <path class="mark-pulse" d="M8.500 17.500h3.500l2.200-5.500 3.300 9 2.200-6h3.800" />
          <circle class="mark-dot" cx="25.500" cy="7" r="2.600" />
        </svg>
      </a>
      {PAGES.map((p) => (
        <a
          key={p.path}
          class={p.path === '/about' ? 'rail-item rail-last' : 'rail-item'}
          href={link(p.path)}
          aria-current={page.value === p ? 'page' : undefined}
          onClick={(e) => follow(e, p.path)}
        >
          <Icon name={ICONS[p.path] ?? 'about'} />
          <span class="rail-name">{p.name}</span>
        </a>
      ))}
    </nav>
  );
}

export function Bar() {
  const timed = page.value?.timed === true;
  const r = range.value;
  return (
    <header class="bar">
      <span class="bar-title">{page.value?.name ?? 'Not found'}</span>
      <Connection />
      <div class="bar-space" />
      {timed && (
        <div class="bar-group">
          <button type="button" class="button icon-only hide-s" onClick={() => shift(-1)} title="Back by half the window  [" aria-label="Earlier">
            <Icon name="left" />
          </button>
          <Picker />
          <button type="button" class="button icon-only hide-s" onClick={() => shift(1)} title="Forward by half the window  ]" aria-label="Later" disabled={r.live}>
            <Icon name="right" />
          </button>
          <button type="button" class="button icon-only hide-s" onClick={zoomOut} title="Zoom out  z" aria-label="Zoom out">
            <Icon name="out" />
          </button>
          <button type="button" class="button zone hide-s" onClick={() => setUtc(!utc.value)} title="Switch between local time and UTC">
            {utc.value ? 'UTC' : 'Local'}
          </button>
          <button type="button" class="button live" aria-pressed={r.live} onClick={toggleLive} title={r.live ? 'Stop the clock  l' : 'Follow the clock  l'}>
            <i class="pulse" />
            Live
          </button>
        </div>
      )}
      <div class="bar-group">
        {timed && <span class="hide-s"><Copy text={permalink} what="Link" label="Copy a link to this view with fixed times" /></span>}
        <button type="button" class="button icon-only" onClick={() => (paletteOpen.value = true)} title="Commands  Ctrl-K" aria-label="Commands">
          <Icon name="command" />
        </button>
        <button type="button" class="button icon-only" onClick={cycleTheme} title={`Theme: ${theme.value}`} aria-label={`Theme: ${theme.value}`}>
          <Icon name={theme.value} />
        </button>
      </div>
    </header>
  );
}

/** Says when what is on the screen is not the newest. */
function Connection() {
  if (!reachable.value) {
    return (
      <span class="state bad" role="status">
        <i />
        <span>Server unreachable</span>
      </span>
    );
  }
  if (liveState.value === 'lost') {
    return (
      <span class="state warn" role="status">
        <i />
        <span>Reconnecting…</span>
      </span>
    );
  }
  return null;
}
