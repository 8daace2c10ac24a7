// Bundles each unit test (TypeScript) for Node, then runs Node's own test runner over them.
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'overseer-ui-'));
try {
  const names = readdirSync(join(here, 'unit')).filter((n) => n.endsWith('.test.ts'));
  await build({
    entryPoints: names.map((n) => join(here, 'unit', n)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    outdir: out,
    outExtension: { '.js': '.mjs' },
    logLevel: 'warning',
  });
  const files = names.map((n) => join(out, n.replace(/\.ts$/, '.mjs')));
  // Modules under test keep a clock running; the runner ends with the last test. A fixed zone east of Greenwich with summer time, so that local and UTC differ in every test.
  const run = spawnSync(process.execPath, ['--test', '--test-force-exit', ...files], { stdio: 'inherit', env: { ...process.env, TZ: 'Europe/Berlin' } });
  process.exitCode = run.status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
