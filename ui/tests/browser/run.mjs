// Checks the real pages in Chromium. OVERSEER_URL names the server; without it the mock server is started.
// `node tests/browser/run.mjs [word]` runs the tests whose name holds the word.
import { chromium } from 'playwright-core';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const word = process.argv[2] ?? '';
const TEST_MS_MAX = 60_000;
const ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
if (!existsSync(executablePath)) {
  console.error(`no Chromium at ${executablePath}: apt-get install chromium, or set CHROMIUM`);
  process.exit(2);
}

const given = process.env.OVERSEER_URL?.replace(/\/+$/, '');
const mock = given ? null : await (await import('../../dev/mock.mjs')).start({ hosts: 2, name: 'atlas' });
const url = given ?? mock.url;
const profile = mkdtempSync(join(tmpdir(), 'overseer-chromium-'));
const browser = await chromium.launch({ executablePath, args: ARGS, env: { ...process.env, HOME: profile } });

/** A page that remembers everything that must not happen on it. */
async function open(options = {}, base = url) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark', baseURL: base, ...options });
  const page = await context.newPage();
  const trouble = [];
  page.on('console', (m) => {
    if (m.type() === 'error' || m.type() === 'warning') trouble.push(`console ${m.type()}: ${m.text()} ${m.location().url ?? ''}`);
  });
  page.on('pageerror', (e) => trouble.push(`exception: ${e.message}`));
  page.on('dialog', (d) => {
    trouble.push(`dialog: ${d.message()}`);
    void d.dismiss();
  });
  const own = new URL(base).host;
  page.on('request', (r) => {
    const to = new URL(r.url());
    if (to.protocol !== 'data:' && to.protocol !== 'blob:' && to.host !== own) trouble.push(`request elsewhere: ${r.url()}`);
  });
  page.on('websocket', (w) => {
    if (new URL(w.url()).host !== own) trouble.push(`socket elsewhere: ${w.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy violated: ${e.violatedDirective} ${e.blockedURI}`));
  });
  return {
    context,
    page,
    trouble,
    /** Drops complaints that a test brings about on purpose. */
    forgive: (pattern) => {
      for (let i = trouble.length - 1; i >= 0; i -= 1) if (pattern.test(trouble[i])) trouble.splice(i, 1);
    },
  };
}

const pages = [];
const kit = {
  url,
  /** Null when the server is a real one. */
  mock,
  open: async (options, base) => {
    const p = await open(options, base);
    pages.push(p);
    return p;
  },
  /** Writes samples through the server's own JSON door. */
  write: async (samples) => {
    const response = await fetch(`${url}/api/v1/metrics`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(samples) });
    if (!response.ok) throw new Error(`POST /api/v1/metrics: ${response.status} ${await response.text()}`);
  },
  self: async () => (await fetch(`${url}/api/v1/self`)).json(),
  /** Waits until the condition holds; fails with its name otherwise. */
  until: async (what, condition, ms = 10_000) => {
    const end = Date.now() + ms;
    for (;;) {
      const value = await condition();
      if (value) return value;
      if (Date.now() > end) throw new Error(`never happened: ${what}`);
      await new Promise((r) => setTimeout(r, 50));
    }
  },
  /** Coloured pixels on the first chart under the selector: text and grid are grey, so only lines count. */
  ink: (page, selector) =>
    page.evaluate((s) => {
      const canvas = document.querySelector(`${s} canvas`);
      if (!canvas || canvas.width === 0) return { count: 0, hash: 0 };
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      let count = 0;
      let hash = 0;
      for (let i = 0; i < data.length; i += 4) {
        const [r, g, b, a] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
        if (a > 60 && Math.max(r, g, b) - Math.min(r, g, b) > 60) {
          count += 1;
          hash = (Math.imul(hash, 31) + i) | 0;
        }
      }
      return { count, hash };
    }, selector),
};

let passed = 0;
let failed = 0;
let skipped = 0;
for (const file of readdirSync(here).filter((f) => f.endsWith('.mjs') && f !== 'run.mjs').sort()) {
  const { tests } = await import(join(here, file));
  for (const [name, run] of Object.entries(tests)) {
    const title = `${file.replace(/^\d+-|\.mjs$/g, '')}: ${name}`;
    if (!title.includes(word)) continue;
    const started = Date.now();
    let timer;
    try {
      const late = new Promise((_, no) => {
        timer = setTimeout(() => no(new Error(`took more than ${TEST_MS_MAX / 1000} s`)), TEST_MS_MAX);
      });
      const said = await Promise.race([run(kit), late]);
      const trouble = pages.flatMap((p) => p.trouble);
      if (trouble.length > 0) throw new Error(trouble.join('\n    '));
      if (typeof said === 'string') {
        skipped += 1;
        console.log(`skip  ${title}: ${said}`);
      } else {
        passed += 1;
        console.log(`ok    ${title} (${Date.now() - started} ms)`);
      }
    } catch (e) {
      failed += 1;
      console.log(`FAIL  ${title}\n    ${String(e instanceof Error ? e.message : e).split('\n').slice(0, 12).join('\n    ')}`);
      const heard = pages.flatMap((p) => p.trouble);
      if (heard.length > 0) console.log(`    heard: ${heard.slice(0, 5).join('\n    ')}`);
      if (process.env.SHOTS) for (const [i, p] of pages.entries()) await p.page.screenshot({ path: join(process.env.SHOTS, `fail-${failed}-${i}.png`) }).catch(() => undefined);
    }
    clearTimeout(timer);
    for (const p of pages.splice(0)) await p.context.close();
  }
}
await browser.close();
await mock?.stop();
rmSync(profile, { recursive: true, force: true });
if (skipped > 0) console.log(`${skipped} skipped`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
