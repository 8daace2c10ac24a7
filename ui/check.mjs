// Checks the sources: types, then the house rules that a type checker does not know.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
const LINES_MAX = 1200;

/** Each rule: what it forbids, and why it is worth a failing check. */
const RULES = [
  { find: /\.(innerHTML|outerHTML)\b|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write\b/, why: 'data becomes text nodes, never markup' },
  { find: /\beval\(|new Function\(/, why: 'the policy of the page forbids it' },
  { find: /https?:\/\/(?!localhost|127\.0\.0\.1|www\.w3\.org\/2000\/svg)/, why: 'the UI loads nothing from elsewhere' },
  { find: /\bconsole\.(log|debug)\b|\bdebugger\b/, why: 'left over' },
  { find: /\b(TODO|FIXME|XXX)\b/, why: 'do it, or file it' },
  { find: /(:|\bas|<)\s*any\b/, why: 'use unknown and narrow it' },
  { find: /@ts-(ignore|nocheck|expect-error)/, why: 'types are strict' },
  { find: /\bsetInterval\(/, why: 'live by subscription, not polling', except: ['src/state/clock.ts'] },
];
const CSS_RULES = [
  { find: /url\(\s*['"]?data:/, why: 'the policy of the page forbids data: URLs' },
  { find: /@import\s+url|https?:\/\//, why: 'the UI loads nothing from elsewhere' },
];

const problems = [];
const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), ['--noEmit', '-p', root], { encoding: 'utf8' });
if (tsc.error) problems.push(`tsc did not start: ${tsc.error.message}`);
if (tsc.status !== 0) problems.push(...`${tsc.stdout}${tsc.stderr}`.trim().split('\n'));

const walk = (dir) =>
  readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? walk(join(dir, e.name)) : [join(dir, e.name)]));
const files = walk(join(root, 'src'));
for (const file of files) {
  const name = relative(root, file);
  const rules = /\.tsx?$/.test(file) ? RULES : /\.css$/.test(file) ? CSS_RULES : [];
  const lines = readFileSync(file, 'utf8').split('\n');
  if (lines.length > LINES_MAX) problems.push(`${name}: ${lines.length} lines, at most ${LINES_MAX}`);
  if (/(^|\/)(utils?|common|helpers?|types)\.tsx?$/.test(name)) problems.push(`${name}: name the thing it holds`);
  lines.forEach((line, i) => {
    for (const rule of rules) {
      if (rule.except?.includes(name)) continue;
      if (rule.find.test(line)) problems.push(`${name}:${i + 1}: ${rule.why}: ${line.trim().slice(0, 100)}`);
    }
  });
}

// Every class used in a style sheet is used in the sources, so that style does not outlive its markup.
const sources = files.filter((f) => /\.tsx?$/.test(f)).map((f) => readFileSync(f, 'utf8')).join('\n');
for (const file of files.filter((f) => f.endsWith('.css'))) {
  for (const [, cls] of readFileSync(file, 'utf8').matchAll(/\.([a-z][a-z0-9-]*)(?=[\s.,:{>+~)[])/g)) {
    if (cls.startsWith('u-') || cls.startsWith('tok-') || cls.startsWith('uplot')) continue;
    if (!new RegExp(`(?<![a-z0-9-])${cls}(?![a-z0-9-])`).test(sources)) problems.push(`${relative(root, file)}: class .${cls} is used nowhere`);
  }
}

if (problems.length) {
  for (const p of [...new Set(problems)]) console.error(p);
  console.error(`${new Set(problems).size} problems`);
  process.exit(1);
}
console.log(`${files.length} files checked`);
