import assert from 'node:assert/strict';
import { test } from 'node:test';

// The least of a browser that the route needs.
const listeners: (() => void)[] = [];
const stack: string[] = ['http://o/explore'];
let index = 0;
const set = (): void => {
  (globalThis as { location?: unknown }).location = new URL(stack[index] as string);
};
set();
Object.assign(globalThis, {
  addEventListener: (name: string, f: () => void) => name === 'popstate' && listeners.push(f),
  document: { hidden: true, querySelector: () => null },
  window: {
    history: {
      pushState: (_s: unknown, _t: string, href: string) => {
        stack.length = index + 1;
        stack.push(new URL(href, location.href).href);
        index += 1;
        set();
      },
      replaceState: (_s: unknown, _t: string, href: string) => {
        stack[index] = new URL(href, location.href).href;
        set();
      },
    },
  },
});
const back = (): void => {
  index -= 1;
  set();
  for (const f of listeners) f();
};

const route = await import('../../src/state/route.ts');
const { MINUTE } = await import('../../src/state/time.ts');

test('the range lives in the URL, and back undoes', () => {
  assert.deepEqual(route.range.value, { live: true, span: 15 * MINUTE });
  route.zoomTo(1_795_000_000_000, 1_795_000_600_000);
  assert.equal(location.search, '?t=2026-11-18T11:06:40Z..2026-11-18T11:16:40Z');
  assert.deepEqual(route.range.value, { live: false, from: 1_795_000_000_000, to: 1_795_000_600_000 });
  route.zoomOut();
  assert.deepEqual(route.range.value, { live: false, from: 1_794_999_700_000, to: 1_795_000_900_000 });
  route.shift(-1);
  assert.deepEqual(route.range.value, { live: false, from: 1_794_999_100_000, to: 1_795_000_300_000 });
  back();
  back();
  assert.deepEqual(route.range.value, { live: false, from: 1_795_000_000_000, to: 1_795_000_600_000 });
  route.toggleLive();
  assert.deepEqual(route.range.value, { live: true, span: 10 * MINUTE });
});

test('queries survive with every sign they may hold', () => {
  const q = ['sum by (a) (rate(x{b="c&d=e+f %/#?"}[5m])) > 1', '{l=~"ü|\\n😀"}'];
  route.change({ q, off: 'B' });
  assert.deepEqual(new URL(location.href).searchParams.getAll('q'), q);
  assert.deepEqual(route.params.value.getAll('q'), q);
  route.change({ off: null });
  assert.equal(route.params.value.get('off'), null);
  assert.deepEqual(route.params.value.getAll('q'), q);
});

test('pages carry the window along and leave the rest', () => {
  route.setRange({ live: true, span: 60 * MINUTE });
  assert.equal(route.link('/infra'), '/infra?t=1h');
  assert.equal(route.link('/about'), '/about');
  route.go('/infra');
  assert.equal(route.path.value, '/infra');
  assert.deepEqual(route.range.value, { live: true, span: 60 * MINUTE });
  assert.match(route.permalink(), /^http:\/\/o\/infra\?t=[\dTZ:-]+\.\.[\dTZ:-]+$/);
});

test('a broken range falls back to that of the page', () => {
  route.go('/infra', { t: 'rubbish' });
  assert.deepEqual(route.range.value, { live: true, span: 5 * MINUTE });
});
