/** The sheet of keys. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

export const sheetOpen = signal(false);

const KEYS: readonly [string, readonly (readonly [string, string])[]][] = [
  ['Anywhere', [['Ctrl K', 'commands'], ['g n', 'Now'], ['g e', 'Explore'], ['g i', 'Infra'], ['g a', 'About'], ['?', 'this sheet'], ['Esc', 'close, leave a field']]],
  ['Time', [['t', 'time range'], ['l', 'live on and off'], ['[', 'half a window back'], [']', 'half a window forward'], ['z', 'zoom out'], ['drag', 'zoom in on a chart'], ['double click', 'zoom out']]],
  ['Explore', [['/', 'to the query'], ['Enter', 'run'], ['Shift Enter', 'new line'], ['Tab', 'take the suggestion'], ['Ctrl Space', 'suggest']]],
];

export function Sheet() {
  if (!sheetOpen.value) return null;
  return <Open />;
}

function Open() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const el = dialog.current;
    el?.showModal();
    return () => el?.close();
  }, []);
  const close = (): void => {
    sheetOpen.value = false;
  };
  return (
    <dialog class="sheet" ref={dialog} aria-label="Keyboard shortcuts" onCancel={close} onClose={close} onClick={(e) => e.target === dialog.current && close()}>
      <div class="sheet-body">
        {KEYS.map(([title, rows]) => (
          <section key={title}>
            <h2>{title}</h2>
            <dl>
              {rows.map(([k, what]) => (
                <div key={k}>
                  <dt>{k === 'drag' || k === 'double click' ? <em>{k}</em> : k.split(' ').map((x) => <kbd key={x}>{x}</kbd>)}</dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </dialog>
  );
}
