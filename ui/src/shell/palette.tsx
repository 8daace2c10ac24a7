/** Ctrl-K: go anywhere, do anything. */
import { signal } from '@preact/signals';
import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { GOOD, likeness, SCATTERED } from '../promql/complete.ts';
import { metricNames } from '../promql/names.ts';
import { history, introHidden, setIntroHidden, setTheme, setUtc, utc } from '../state/prefs.ts';
import { go, page, PAGES, permalink, range, setRange, toggleLive, zoomOut } from '../state/route.ts';
import { HOUR, MINUTE, parseRange, DAY } from '../state/time.ts';
import { now } from '../state/clock.ts';
import { copyText } from './parts.tsx';
import { openPicker } from './picker.tsx';
import { sheetOpen } from './sheet.tsx';

export const paletteOpen = signal(false);

interface Command {
  name: string;
  kind: string;
  keys?: string;
  run: () => void;
}

const SHOWN_MAX = 60;

function commands(): Command[] {
  const timed = page.peek()?.timed === true;
  const out: Command[] = PAGES.map((p) => ({ name: p.name, kind: 'Go to', keys: `g ${p.key}`, run: () => go(p.path) }));
  if (timed) {
    out.push(
      { name: range.peek().live ? 'Stop the clock' : 'Go live', kind: 'Time', keys: 'l', run: toggleLive },
      { name: 'Pick a time range', kind: 'Time', keys: 't', run: openPicker },
      { name: 'Zoom out', kind: 'Time', keys: 'z', run: zoomOut },
      ...([['Last 15 minutes', 15 * MINUTE], ['Last hour', HOUR], ['Last 6 hours', 6 * HOUR], ['Last day', DAY], ['Last week', 7 * DAY]] as const).map(
        ([name, span]): Command => ({ name, kind: 'Time', run: () => setRange({ live: true, span }) }),
      ),
      { name: 'Copy link to this view', kind: 'Share', run: () => void copyText(permalink()) },
    );
  }
  out.push(
    { name: 'Dark theme', kind: 'Look', run: () => setTheme('dark') },
    { name: 'Light theme', kind: 'Look', run: () => setTheme('light') },
    { name: 'Theme of the system', kind: 'Look', run: () => setTheme('system') },
    { name: utc.peek() ? 'Times in local time' : 'Times in UTC', kind: 'Look', run: () => setUtc(!utc.peek()) },
    { name: 'Keyboard shortcuts', kind: 'Help', keys: '?', run: () => (sheetOpen.value = true) },
  );
  if (introHidden.peek()) {
    out.push({
      name: 'Show the ways to send data', kind: 'Help', run: () => {
        setIntroHidden(false);
        go('/');
      },
    });
  }
  return out;
}

export function Palette() {
  if (!paletteOpen.value) return null;
  return <Open />;
}

function Open() {
  const [text, setText] = useState('');
  const [chosen, setChosen] = useState(0);
  const [names, setNames] = useState<readonly string[]>([]);
  const dialog = useRef<HTMLDialogElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const el = dialog.current;
    el?.showModal();
    metricNames().then(setNames, () => undefined);
    return () => el?.close();
  }, []);
  const close = (): void => {
    paletteOpen.value = false;
  };
  const fixed = useMemo(commands, []);
  const shown = useMemo(() => {
    const t = text.trim();
    if (t === '') return fixed;
    const extra: Command[] = [];
    const parsed = page.peek()?.timed ? parseRange(t, now(), utc.peek()) : null;
    if (parsed?.ok) extra.push({ name: `Show ${t}`, kind: 'Time', run: () => setRange(parsed.range) });
    const metric = names.map((n): Command => ({ name: n, kind: 'Explore', run: () => go('/explore', { q: n }) }));
    const past = history.peek().map((q): Command => ({ name: q, kind: 'Run again', run: () => go('/explore', { q }) }));
    const scored = [...fixed, ...metric, ...past]
      .map((c, i) => ({ c, i, s: likeness(c.name, t) }))
      .filter((x, _i, all) => x.s > (all.some((y) => y.s >= GOOD) ? SCATTERED : 0))
      // Commands before names that match as well.
      .map((x) => (x.c.kind === 'Explore' || x.c.kind === 'Run again' ? x : { ...x, s: x.s + 50 }))
      .sort((a, b) => b.s - a.s || a.i - b.i)
      .map((x) => x.c);
    return [...extra, ...scored].slice(0, SHOWN_MAX);
  }, [text, names]);
  useLayoutEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);
  const run = (c: Command | undefined): void => {
    if (!c) return;
    close();
    // After the dialog has given the focus back.
    setTimeout(c.run);
  };
  return (
    <dialog
      class="palette"
      ref={dialog}
      aria-label="Commands"
      onCancel={close}
      onClose={close}
      onClick={(e) => {
        if (e.target === dialog.current) close();
      }}
    >
      <input
        value={text}
        placeholder="Go to, do, or find a metric"
        aria-label="Command"
        spellcheck={false}
        autocomplete="off"
        onInput={(e) => {
          setText(e.currentTarget.value);
          setChosen(0);
        }}
        onKeyDown={(e) => {
          if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
            e.preventDefault();
            setChosen((chosen + (e.key === 'ArrowDown' ? 1 : shown.length - 1)) % Math.max(1, shown.length));
          }
          if (e.key === 'Enter') {
            e.preventDefault();
            run(shown[chosen]);
          }
        }}
      />
      <div class="palette-list" role="listbox" ref={list}>
        {shown.map((c, i) => (
          <div key={`${c.kind} ${c.name}`} role="option" aria-selected={i === chosen} class="palette-row" onClick={() => run(c)} onMouseMove={() => i !== chosen && setChosen(i)}>
            <span class="palette-kind">{c.kind}</span>
            <span class="palette-name">{c.name}</span>
            {c.keys && <span class="palette-keys">{c.keys.split(' ').map((k) => <kbd key={k}>{k}</kbd>)}</span>}
          </div>
        ))}
        {shown.length === 0 && <div class="palette-none">Nothing matches.</div>}
      </div>
    </dialog>
  );
}
