// ui/dist in front of a real server: a rebuilt UI shows without a rebuilt binary.
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { serveFile } from './files.mjs';

/** Serves the built UI on the port and hands /api and its live channel on to `upstream` (an http:// address). */
export async function start({ port = 0, upstream }) {
  const to = new URL(upstream);
  const server = createServer((req, res) => {
    if (!req.url.startsWith('/api/')) return serveFile(new URL(req.url, 'http://x').pathname, req, res);
    const out = request({ host: to.hostname, port: to.port || 80, method: req.method, path: req.url, headers: req.headers }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    out.on('error', () => res.writeHead(502).end());
    req.pipe(out);
  });
  server.on('upgrade', (req, socket, head) => {
    const out = connect(Number(to.port || 80), to.hostname, () => {
      out.write(`${req.method} ${req.url} HTTP/1.1\r\n${req.rawHeaders.map((h, i) => (i % 2 ? `${h}\r\n` : `${h}: `)).join('')}\r\n`);
      out.write(head);
      out.pipe(socket);
      socket.pipe(out);
    });
    out.on('error', () => socket.destroy());
    socket.on('error', () => out.destroy());
  });
  await new Promise((done) => server.listen(port, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}
