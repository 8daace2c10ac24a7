// Builds ui/dist: index.html, hashed assets, a brotli file beside each text asset, manifest.json.
// Fails when the first load grows past the budget.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, 'dist');
const KIB = 1024;
const FIRST_LOAD_MAX = 150 * KIB;
const CHUNK_MAX = 120 * KIB;
const DIST_MAX = 1024 * KIB;

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
};

rmSync(dist, { recursive: true, force: true });
mkdirSync(join(dist, 'assets'), { recursive: true });

const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  target: ['chrome110', 'firefox110', 'safari16.4'],
  legalComments: 'none',
  logLevel: 'warning',
  entryNames: '[name]-[hash]',
  chunkNames: 'chunk-[hash]',
  outdir: 'dist/assets',
  metafile: true,
};

const app = await build({
  ...common,
  entryPoints: { app: 'src/main.tsx' },
  format: 'esm',
  splitting: true,
  jsx: 'automatic',
  jsxImportSource: 'preact',
  define: { 'process.env.NODE_ENV': '"production"' },
});
// Runs before the first paint, so it is a file of its own: the page's policy allows no inline script.
const theme = await build({ ...common, entryPoints: { theme: 'src/state/first-paint.ts' }, format: 'iife' });

/** Finds the file that esbuild made for an entry point. */
function output(meta, entry, ext) {
  for (const [path, info] of Object.entries(meta.outputs)) {
    if (info.entryPoint === entry && ext === '.js') return path.replace(/^dist\//, '');
    if (info.entryPoint === entry && ext === '.css' && info.cssBundle) return info.cssBundle.replace(/^dist\//, '');
  }
  throw new Error(`no ${ext} output for ${entry}`);
}

const icon = readFileSync(join(root, 'src/icon.svg'));
const iconPath = `assets/icon-${createHash('sha256').update(icon).digest('hex').slice(0, 8)}.svg`;
writeFileSync(join(dist, iconPath), icon);

const main = Object.entries(app.metafile.outputs).find(([, info]) => info.entryPoint === 'src/main.tsx');
const js = output(app.metafile, 'src/main.tsx', '.js');
const css = main[1].cssBundle.replace(/^dist\//, '');
const paint = output(theme.metafile, 'src/state/first-paint.ts', '.js');
const html = readFileSync(join(root, 'src/index.html'), 'utf8')
  .replace('{{icon}}', `/${iconPath}`)
  .replace('{{paint}}', `/${paint}`)
  .replace('{{css}}', `/${css}`)
  .replace('{{js}}', `/${js}`);
if (/\{\{|<style|style=|<script>/.test(html)) throw new Error('index.html: inline code or a placeholder left over');
writeFileSync(join(dist, 'index.html'), html);

// What the browser fetches before the first page shows: the document, its scripts and style, and static imports of the entry.
const first = new Set(['index.html', iconPath, js, css, paint]);
for (const i of main[1].imports) if (i.kind === 'import-statement') first.add(i.path.replace(/^dist\//, ''));

const files = [];
const walk = (dir) =>
  readdirSync(join(dist, dir), { withFileTypes: true })
    .sort((a, b) => a.name.localeCompare(b.name))
    .forEach((e) => (e.isDirectory() ? walk(join(dir, e.name)) : files.push(join(dir, e.name))));
walk('.');

let total = 0;
let firstLoad = 0;
const problems = [];
const rows = files.map((path) => {
  const raw = readFileSync(join(dist, path));
  const br = brotliCompressSync(raw, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: raw.length },
  });
  writeFileSync(join(dist, `${path}.br`), br);
  total += raw.length + br.length;
  if (first.has(path)) firstLoad += br.length;
  else if (br.length > CHUNK_MAX) problems.push(`${path}: ${br.length} B compressed, at most ${CHUNK_MAX}`);
  return {
    path,
    type: TYPES[extname(path)] ?? 'application/octet-stream',
    bytes: raw.length,
    brotli: br.length,
    immutable: path.startsWith('assets/'),
    first_load: first.has(path),
  };
});
if (firstLoad > FIRST_LOAD_MAX) problems.push(`first load: ${firstLoad} B compressed, at most ${FIRST_LOAD_MAX}`);
if (total > DIST_MAX) problems.push(`dist: ${total} B, at most ${DIST_MAX}`);
writeFileSync(join(dist, 'manifest.json'), `${JSON.stringify({ first_load_brotli: firstLoad, files: rows }, null, 1)}\n`);

const kib = (n) => `${(n / KIB).toFixed(1).padStart(7)} KiB`;
for (const r of rows) console.log(`${kib(r.bytes)} ${kib(r.brotli)} br  ${r.path}`);
console.log(`first load ${kib(firstLoad)} brotli, at most ${kib(FIRST_LOAD_MAX)}; dist ${kib(total)} with both forms`);
if (problems.length) {
  for (const p of problems) console.error(`budget: ${p}`);
  process.exit(1);
}
