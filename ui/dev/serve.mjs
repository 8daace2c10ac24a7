// npm run dev: the mock server on a fixed port. Build first; rebuild and reload to see changes.
import { start } from './mock.mjs';

const server = await start({ port: Number(process.env.PORT ?? 7071), hosts: Number(process.env.HOSTS ?? 3), token: process.env.TOKEN ?? null });
process.stdout.write(`${server.url}\n`);
