/** The time box: one field that understands what people write, presets below it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { now } from '../state/clock.ts';
import { setUtc, utc } from '../state/prefs.ts';
import { range, setRange } from '../state/route.ts';
import { formatRange, formatSpan, parseRange, windowOf, formatPoint } from '../state/time.ts';
import { Icon } from './icons.tsx';

/** Puts the caret in the time box, at once, so that no key typed after `t` is lost. */
export function openPicker(): void {
  document.querySelector<HTMLInputElement>('.picker input')?.focus();
}

const PRESETS: readonly (readonly string[])[] = [
  ['5m', '15m', '30m', '1h', '3h', '6h'],
  ['12h', '24h', '2d', '7d', '30d', '90d'],
];
const DAYS = ['today', 'yesterday', 'this week', 'last week'];

export function Picker() {
  const [open, setOpen] = useState(false);
  const [text, setText] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const shown = formatRange(range.value, utc.value);

  useEffect(() => {
    if (!open) return;
    const outside = (e: PointerEvent): void => {
      if (e.target instanceof Node && !box.current?.contains(e.target)) finish();
    };
    document.addEventListener('pointerdown', outside);
    return () => document.removeEventListener('pointerdown', outside);
  }, [open]);

  const finish = (): void => {
    setOpen(false);
    setText(null);
    input.current?.blur();
  };
  const parsed = parseRange(text ?? shown, now(), utc.value);
  const apply = (what: string): void => {
    const p = parseRange(what, now(), utc.value);
    if (!p.ok) return;
    setRange(p.range);
    finish();
  };
  const w = parsed.ok ? windowOf(parsed.range, now()) : null;
  return (
    <div class="picker" ref={box}>
      <Icon name="clock" />
      <input
        ref={input}
        value={text ?? shown}
        aria-label="Time range"
        aria-expanded={open}
        aria-invalid={open && !parsed.ok}
        spellcheck={false}
        autocomplete="off"
        size={Math.max(12, Math.min(36, (text ?? shown).length))}
        onFocus={(e) => {
          setOpen(true);
          e.currentTarget.select();
        }}
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Enter') apply(text ?? shown);
          if (e.key === 'Escape') {
            e.stopPropagation();
            finish();
          }
          if (e.key === 'Tab') setOpen(false);
        }}
      />
      {open && (
        <div class="menu picker-menu">
          <div class={parsed.ok ? 'picker-read num' : 'picker-read wrong'}>
            {parsed.ok && w ? (
              <>
                <b>{formatSpan(Math.round((w.to - w.from) / 1000) * 1000)}</b>
                <span>
                  {parsed.range.live ? 'up to now, sliding' : `${formatPoint(w.from, utc.value)} to ${formatPoint(w.to, utc.value)}`}
                </span>
              </>
            ) : (
              !parsed.ok && parsed.why
            )}
          </div>
          {PRESETS.map((row) => (
            <div class="presets" key={row[0]}>
              {row.map((p) => (
                <button type="button" key={p} aria-pressed={range.value.live && shown === `last ${p}`} onClick={() => apply(p)}>
                  {p}
                </button>
              ))}
            </div>
          ))}
          <div class="presets words">
            {DAYS.map((p) => (
              <button type="button" key={p} onClick={() => apply(p)}>
                {p}
              </button>
            ))}
          </div>
          <div class="picker-foot">
            <div class="switch" role="group" aria-label="Zone">
              <button type="button" aria-pressed={!utc.value} onClick={() => setUtc(false)}>
                Local
              </button>
              <button type="button" aria-pressed={utc.value} onClick={() => setUtc(true)}>
                UTC
              </button>
            </div>
            <span class="faint">{utc.value ? 'Coordinated Universal Time' : Intl.DateTimeFormat().resolvedOptions().timeZone}</span>
          </div>
        </div>
      )}
    </div>
  );
}
