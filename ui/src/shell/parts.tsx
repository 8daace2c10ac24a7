/** Small parts that pages share. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icons.tsx';

/** Nothing to show, and the next command. */
export function Empty({ title, text, command, children }: { title: string; text: string; command?: string | undefined; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      <p>{text}</p>
      {command && <Code text={command} />}
      {children}
    </div>
  );
}

/** Lines to paste, with a button that copies them. */
export function Code({ text }: { text: string }) {
  return (
    <div class="code">
      <pre tabIndex={0}>{text}</pre>
      <Copy text={text} what="Copy" />
    </div>
  );
}

export function Copy({ text, what, label }: { text: string | (() => string); what: string; label?: string }) {
  const [state, setState] = useState<'' | 'done' | 'failed'>('');
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => () => void (timer.current && clearTimeout(timer.current)), []);
  const copy = async (): Promise<void> => {
    const ok = await copyText(typeof text === 'string' ? text : text());
    setState(ok ? 'done' : 'failed');
    if (timer.current) clearTimeout(timer.current);
    timer.current = setTimeout(() => setState(''), 1600);
  };
  const said = state === 'done' ? 'Copied' : state === 'failed' ? 'Press Ctrl-C' : what;
  return (
    <button type="button" class={`button quiet copy${state === 'done' ? ' done' : ''}`} onClick={() => void copy()} aria-label={label ?? what} title={label ?? what}>
      <Icon name={state === 'done' ? 'check' : 'copy'} />
      <span aria-live="polite">{said}</span>
    </button>
  );
}

/** Puts the text on the clipboard; plain HTTP on a host name has no clipboard API, so the old way stays as fallback. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'off-screen';
    document.body.append(area);
    area.select();
    const ok = document.execCommand('copy');
    area.remove();
    return ok;
  }
}

/** A bar from 0 to 1. Beyond `warn` and `bad` the colour changes and a sign is put beside the figure. */
export function Meter({ share, label, warn, bad }: { share: number; label?: string; warn?: number; bad?: number }) {
  const level = bad !== undefined && share >= bad ? 'bad' : warn !== undefined && share >= warn ? 'warn' : 'fine';
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return (
    <div class={`meter ${level}`}>
      <div class="meter-track">
        <div class="meter-fill" style={{ width }} />
      </div>
      {label !== undefined && (
        <span class="meter-label">
          {label}
          <span class="meter-sign" title={level === 'bad' ? 'almost full' : level === 'warn' ? 'filling up' : undefined}>
            {level === 'bad' ? '‼' : level === 'warn' ? '!' : ''}
          </span>
        </span>
      )}
    </div>
  );
}

export function Tabs<T extends string>({ value, all, onPick }: { value: T; all: readonly [T, string][]; onPick: (t: T) => void }) {
  return (
    <div class="tabs" role="tablist">
      {all.map(([key, name]) => (
        <button key={key} type="button" role="tab" aria-selected={key === value} onClick={() => onPick(key)}>
          {name}
        </button>
      ))}
    </div>
  );
}

/** True once `since` (performance.now) is more than 150 ms ago: below that no sign of waiting shows. */
export function useLate(since: number | null): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (since === null) {
      setLate(false);
      return;
    }
    const timer = setTimeout(() => setLate(true), Math.max(0, 150 - (performance.now() - since)));
    return () => clearTimeout(timer);
  }, [since]);
  return late && since !== null;
}
