// ui/dist as the server sends it: same policy, same caching, the brotli form where the browser takes it.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.json': 'application/json' };
const CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/** Answers with the file of the path, or with the start page for the pages' own paths. */
export function serveFile(path, req, res) {
  let name = normalize(path).replace(/^\/+/, '');
  if (!/^assets\//.test(name) || !existsSync(join(dist, name))) {
    if (name.startsWith('assets/')) {
      res.writeHead(404).end();
      return;
    }
    name = 'index.html';
  }
  const br = (req.headers['accept-encoding'] ?? '').includes('br');
  res.writeHead(200, {
    'content-type': TYPES[extname(name)] ?? 'application/octet-stream',
    'content-security-policy': CSP,
    'x-content-type-options': 'nosniff',
    'cache-control': name.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
    ...(br ? { 'content-encoding': 'br' } : {}),
  });
  res.end(readFileSync(join(dist, br ? `${name}.br` : name)));
}
