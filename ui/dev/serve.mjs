// npm run dev: the built UI on a fixed port, over synthetic data, or with UPSTREAM=http://… over a real server's API.
// Build first; rebuild and reload to see changes.
import { start as mock } from './mock.mjs';
import { start as proxy } from './proxy.mjs';

const port = Number(process.env.PORT ?? 7071);
const { UPSTREAM: upstream, TOKEN: token } = process.env;
const server = upstream ? await proxy({ port, upstream }) : await mock({ port, hosts: Number(process.env.HOSTS ?? 3), token: token ?? null });
process.stdout.write(`${server.url}\n`);
