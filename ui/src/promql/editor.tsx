/**
 * The query editor: a textarea with transparent text over a coloured copy of the same text, so that selection, undo,
 * spelling of touch keyboards and screen readers stay the browser's own.
 */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import {
  CANDIDATES_MAX, DURATION_CANDIDATES, labelCandidate, placeAt, rank, valueCandidate, WORD_CANDIDATES, type Candidate, type Place,
} from './complete.ts';
import { labelNames, labelValues, metadata, metadataOf, metricNames } from './names.ts';
import { errorSpan, tokenize } from './tokens.ts';

async function candidates(place: Place): Promise<Candidate[]> {
  switch (place.at) {
    case 'expression': {
      const [names, meta] = await Promise.all([metricNames(), metadata().catch(() => new Map())]);
      const metrics = names.map((name): Candidate => {
        const m = metadataOf(meta, name);
        return { label: name, kind: 'metric', insert: name, note: m?.type ?? '', doc: m?.help ?? '' };
      });
      return rank([...metrics, ...WORD_CANDIDATES], place.typed);
    }
    case 'label': {
      const names = await labelNames(place.metric);
      return rank(names.filter((n) => !place.taken.includes(n) && n !== '__name__').map((n) => labelCandidate(n, place.braces)), place.typed);
    }
    case 'value':
      return rank((await labelValues(place.label, place.metric, place.matchers)).map(valueCandidate), place.typed);
    case 'duration':
      return rank(DURATION_CANDIDATES, place.typed);
    case 'nothing':
      return [];
  }
}

interface Popup {
  place: Place;
  list: Candidate[];
  chosen: number;
  /** True once the person moved in the list: then Enter takes, otherwise it runs. */
  moved: boolean;
}

interface Props {
  value: string;
  name: string;
  error: string | null;
  placeholder: string;
  autofocus?: boolean;
  onChange: (text: string) => void;
  onRun: (text: string) => void;
}

export function Editor({ value, name, error, placeholder, autofocus, onChange, onRun }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const under = useRef<HTMLPreElement>(null);
  const mark = useRef<HTMLSpanElement>(null);
  const listBox = useRef<HTMLDivElement>(null);
  const asked = useRef(0);
  const [popup, setPopup] = useState<Popup | null>(null);
  const [spot, setSpot] = useState<{ left: number; top: number } | null>(null);
  const [caret, setCaret] = useState(0);
  const wanted = useRef<number | null>(null);

  useEffect(() => {
    // As a property it would be a boolean, which older engines do not know.
    area.current?.setAttribute('autocorrect', 'off');
    if (autofocus && !matchMedia('(pointer: coarse)').matches) area.current?.focus({ preventScroll: true });
  }, []);

  // After a completion the new text is drawn first, then the caret is put where it belongs.
  useLayoutEffect(() => {
    if (wanted.current !== null && area.current) {
      area.current.setSelectionRange(wanted.current, wanted.current);
      wanted.current = null;
    }
  }, [value]);

  useLayoutEffect(() => {
    if (!popup || !mark.current || !under.current) return;
    const at = mark.current.getBoundingClientRect();
    const box = under.current.getBoundingClientRect();
    const width = Math.min(560, window.innerWidth - 24);
    setSpot({ left: Math.max(12 - box.left, Math.min(at.left - box.left - 8, window.innerWidth - box.left - width - 12)), top: at.bottom - box.top + 8 });
  }, [popup, value]);

  useLayoutEffect(() => {
    listBox.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [popup?.chosen]);

  const suggest = (text: string, pos: number, force: boolean): void => {
    const place = placeAt(text, pos);
    const turn = (asked.current += 1);
    if (place.at === 'nothing' || (!force && place.typed === '' && place.at === 'expression')) {
      setPopup(null);
      return;
    }
    candidates(place).then(
      (list) => {
        if (turn !== asked.current) return;
        const done = list.length === 0 || (list.length === 1 && list[0]?.label === place.typed && !force);
        setPopup(done ? null : { place, list, chosen: 0, moved: false });
        setCaret(place.from);
      },
      () => turn === asked.current && setPopup(null),
    );
  };

  const close = (): void => {
    asked.current += 1;
    setPopup(null);
  };

  const take = (c: Candidate): void => {
    const el = area.current;
    if (!el || !popup) return;
    const { place } = popup;
    let { insert, caret: inner } = c;
    const after = el.value.slice(place.to);
    // A call that already has its parenthesis gets no second one; a label that already has its operator neither.
    if (/\(\)$/.test(insert) && /^\s*\(/.test(after)) {
      insert = insert.replace(/\s?\(\)$/, '');
      inner = insert.length;
    }
    if (c.kind === 'label' && /^\s*(=|!)/.test(after)) {
      insert = c.label;
      inner = insert.length;
    }
    close();
    el.focus();
    el.setSelectionRange(place.from, place.to);
    // execCommand keeps the browser's undo history; setRangeText is the fallback where it is gone.
    if (!document.execCommand('insertText', false, insert)) el.setRangeText(insert, place.from, place.to, 'end');
    const pos = place.from + (inner ?? insert.length);
    el.setSelectionRange(pos, pos);
    wanted.current = pos;
    onChange(el.value);
    if (inner !== undefined && inner < insert.length) suggest(el.value, pos, false);
  };

  const key = (e: KeyboardEvent): void => {
    const el = e.currentTarget as HTMLTextAreaElement;
    if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      close();
      onRun(el.value);
      return;
    }
    if (popup) {
      const chosen = popup.list[popup.chosen];
      if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
        e.preventDefault();
        const n = popup.list.length;
        setPopup({ ...popup, chosen: (popup.chosen + (e.key === 'ArrowDown' ? 1 : n - 1)) % n, moved: true });
        return;
      }
      if (e.key === 'Escape') {
        e.preventDefault();
        e.stopPropagation();
        close();
        return;
      }
      if (e.key === 'Tab' && !e.shiftKey && chosen) {
        e.preventDefault();
        take(chosen);
        return;
      }
      if (e.key === 'Enter' && !e.shiftKey && chosen && (popup.moved || (popup.place.typed !== '' && chosen.label !== popup.place.typed && chosen.label.startsWith(popup.place.typed)))) {
        e.preventDefault();
        take(chosen);
        return;
      }
    }
    if (e.key === 'Enter' && !e.shiftKey) {
      e.preventDefault();
      close();
      onRun(el.value);
      return;
    }
    if (e.key === ' ' && e.ctrlKey) {
      e.preventDefault();
      suggest(el.value, el.selectionStart, true);
      return;
    }
    if (e.key === 'Escape') el.blur();
    pair(e, el);
  };

  /** Typing an opening sign closes it; typing the closing one steps over. */
  const pair = (e: KeyboardEvent, el: HTMLTextAreaElement): void => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const { selectionStart: a, selectionEnd: b, value: text } = el;
    const closing = { '(': ')', '{': '}', '[': ']', '"': '"' }[e.key];
    const next = text.charAt(b);
    if (a === b && next === e.key && ')}]"'.includes(e.key) && (e.key !== '"' || placeAt(text, a).at !== 'expression')) {
      e.preventDefault();
      el.setSelectionRange(a + 1, a + 1);
      close();
      return;
    }
    if (closing && (a !== b || /^$|[\s)}\],]/.test(next)) && !(e.key === '"' && /[\w"\\]/.test(text.charAt(a - 1)))) {
      e.preventDefault();
      const inner = text.slice(a, b);
      document.execCommand('insertText', false, e.key + inner + closing);
      el.setSelectionRange(a + 1, a + 1 + inner.length);
      wanted.current = a === b ? a + 1 : null;
      onChange(el.value);
      if (a === b) suggest(el.value, a + 1, false);
      return;
    }
    if (e.key === 'Backspace' && a === b && a > 0 && ['()', '{}', '[]', '""'].includes(text.slice(a - 1, a + 1))) {
      e.preventDefault();
      el.setSelectionRange(a - 1, a + 1);
      document.execCommand('delete');
      onChange(el.value);
    }
  };

  const span = error === null ? null : errorSpan(error, value);
  const chosen = popup?.list[popup.chosen];
  const id = `editor-${name}`;
  return (
    <div class={`editor${error === null ? '' : ' bad'}`}>
      <pre class="editor-under" ref={under} aria-hidden="true">
        {pieces(value, span, popup ? caret : -1).map((p, i) =>
          p.mark ? <span key={`m${i}`} ref={mark} /> : <span key={i} class={`tok-${p.kind}${p.bad ? ' wavy' : ''}`}>{p.text}</span>,
        )}
        {'\u200b'}
      </pre>
      <textarea
        ref={area}
        class="editor-area"
        value={value}
        rows={1}
        spellcheck={false}
        autocapitalize="off"
        autocomplete="off"
        placeholder={placeholder}
        aria-label={`Query ${name}`}
        aria-autocomplete="list"
        aria-expanded={popup !== null}
        aria-controls={id}
        aria-invalid={error !== null}
        data-focus="query"
        onInput={(e) => {
          const el = e.currentTarget;
          onChange(el.value);
          suggest(el.value, el.selectionStart, false);
        }}
        onKeyDown={key}
        onClick={close}
        onBlur={close}
      />
      {popup && spot && (
        <div class="popup" id={id} style={{ left: `${spot.left}px`, top: `${spot.top}px` }} onMouseDown={(e) => e.preventDefault()}>
          <div class="popup-list" role="listbox" ref={listBox}>
            {popup.list.map((c, i) => (
              <div
                key={`${c.kind}:${c.label}`}
                role="option"
                aria-selected={i === popup.chosen}
                class="popup-row"
                onClick={() => take(c)}
              >
                <span class={`popup-kind tok-${c.kind}`}>{GLYPH[c.kind]}</span>
                <span class="popup-name">{matched(c.label, popup.place.typed)}</span>
                <span class="popup-note">{c.note}</span>
              </div>
            ))}
            {popup.list.length >= CANDIDATES_MAX && <div class="popup-more">more: keep typing</div>}
          </div>
          <div class="popup-doc">
            <span class="popup-help">{chosen?.doc === '' || !chosen ? HINT[chosen?.kind ?? 'metric'] : chosen.doc}</span>
            <span class="popup-keys">
              <kbd>Tab</kbd> take
            </span>
          </div>
        </div>
      )}
    </div>
  );
}

const GLYPH = { metric: 'm', function: 'ƒ', aggregation: 'Σ', keyword: 'k', label: 'l', value: '"', duration: 't' } as const;
const HINT = {
  metric: 'no help text was sent with this metric', function: '', aggregation: '', keyword: '', label: 'label name', value: 'label value', duration: 'duration',
} as const;

function matched(label: string, typed: string) {
  const at = typed === '' ? -1 : label.toLowerCase().indexOf(typed.toLowerCase());
  if (at < 0) return label;
  return (
    <>
      {label.slice(0, at)}
      <b>{label.slice(at, at + typed.length)}</b>
      {label.slice(at + typed.length)}
    </>
  );
}

interface Piece {
  text: string;
  kind: string;
  bad: boolean;
  mark: boolean;
}

/** Tokens cut at the error and at the caret. */
function pieces(text: string, bad: { start: number; end: number } | null, caret: number): Piece[] {
  const cuts = [bad?.start, bad?.end, caret].filter((x): x is number => x !== undefined && x >= 0);
  const out: Piece[] = [];
  if (caret === 0) out.push({ text: '', kind: '', bad: false, mark: true });
  for (const t of tokenize(text)) {
    const points = [t.start, ...cuts.filter((c) => c > t.start && c < t.end).sort((a, b) => a - b), t.end];
    for (let i = 0; i + 1 < points.length; i += 1) {
      const [a, b] = [points[i] as number, points[i + 1] as number];
      out.push({ text: text.slice(a, b), kind: t.kind, bad: bad !== null && a >= bad.start && b <= bad.end, mark: false });
      if (b === caret) out.push({ text: '', kind: '', bad: false, mark: true });
    }
  }
  return out;
}
