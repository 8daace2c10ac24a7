/** Calls to the server's HTTP API. Every failure becomes one ApiError that says the cause. */
import { signal } from '@preact/signals';

export class ApiError extends Error {
  constructor(readonly kind: string, message: string, readonly status: number, readonly request: string | null = null) {
    super(message);
  }
}

/** True once the server has answered 401: the login screen shows. */
export const locked = signal(false);
/** False while the server cannot be reached. */
export const reachable = signal(true);

interface Envelope {
  status?: string;
  data?: unknown;
  errorType?: string;
  error?: string;
  warnings?: string[];
  infos?: string[];
}

async function call(path: string, init: RequestInit): Promise<{ body: unknown; ms: number }> {
  const started = performance.now();
  let response: Response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...init });
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    reachable.value = false;
    throw new ApiError('unreachable', 'The server cannot be reached. Is `overseer` running?', 0);
  }
  reachable.value = true;
  const text = await response.text();
  if (response.status === 401) {
    locked.value = true;
    throw new ApiError('unauthorized', 'Log in first.', 401);
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = null;
  }
  if (!response.ok || body === null) {
    const env = (body ?? {}) as Envelope;
    throw new ApiError(
      env.errorType ?? `http ${response.status}`,
      env.error ?? (text.trim().slice(0, 300) || `the server answered ${response.status} ${response.statusText}`),
      response.status,
      response.headers.get('x-request-id'),
    );
  }
  return { body, ms: performance.now() - started };
}

/** GET of a plain JSON document. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call(path, { signal: signal ?? null })).body as T;
}

/** GET in the Prometheus envelope; gives its `data`. */
export async function prom<T>(path: string, signal?: AbortSignal): Promise<T> {
  return ((await call(path, { signal: signal ?? null })).body as Envelope).data as T;
}

export interface QueryData {
  resultType: 'matrix' | 'vector' | 'scalar' | 'string';
  result: unknown;
}

export interface QueryAnswer {
  data: QueryData;
  warnings: string[];
  infos: string[];
  ms: number;
}

/** A query by form POST, so that its length has no bound but the server's. */
export async function query(path: string, form: Record<string, string>, signal?: AbortSignal): Promise<QueryAnswer> {
  const { body, ms } = await call(path, { method: 'POST', body: new URLSearchParams(form), signal: signal ?? null });
  const env = body as Envelope;
  return { data: env.data as QueryData, warnings: env.warnings ?? [], infos: env.infos ?? [], ms };
}

export interface SelfInfo {
  version: string;
  roles: string[];
  data_dir: string;
  listen: string;
  auth: 'none' | 'token';
  started_ms: number;
  host: string;
  agent: boolean;
}

/** True once the server has answered for the first time, or has failed to: pages wait for it, so that a locked server shows no empty ones. */
export const settled = signal(false);
/** What this server says of itself; null until it has answered. */
export const self = signal<SelfInfo | null>(null);

export async function loadSelf(): Promise<void> {
  try {
    self.value = await get<SelfInfo>('/api/v1/self');
    locked.value = false;
  } finally {
    settled.value = true;
  }
}

/** Trades the token for a cookie. */
export async function login(token: string): Promise<void> {
  const response = await fetch('/api/v1/login', {
    method: 'POST',
    credentials: 'same-origin',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ token }),
  });
  if (!response.ok) {
    const text = await response.text();
    let why = `the server answered ${response.status}`;
    try {
      why = (JSON.parse(text) as Envelope).error ?? why;
    } catch {
      // Not JSON: the status says enough.
    }
    throw new ApiError('login', response.status === 401 ? 'That is not the token of this server.' : why, response.status);
  }
  await loadSelf();
}
