/** One WebSocket for everything live: subscriptions survive a lost connection. */
import { signal } from '@preact/signals';
import type { Labels } from '../format.ts';
import { loadSelf, locked, reachable } from './api.ts';
import { learn } from './clock.ts';

export type Topic = { topic: 'host' } | { topic: 'intake' } | { topic: 'query'; expr: string; range_ms: number; step_ms: number };

export interface HostSnapshot {
  type: 'snapshot';
  at_ms: number[];
  series: { labels: Labels; values: (number | null)[] }[];
}
export interface HostDelta {
  type: 'delta';
  at_ms: number;
  added?: { labels: Labels }[];
  removed?: number[];
  values: (number | null)[];
}
export interface QuerySnapshot {
  type: 'snapshot';
  start_ms: number;
  end_ms: number;
  step_ms: number;
  series: { labels: Labels; at_ms: number[]; values: Sampled[] }[];
  warnings?: string[];
  infos?: string[];
}
export interface QueryDelta {
  type: 'delta';
  at_ms: number;
  series: { labels: Labels; value: Sampled }[];
}
/** JSON has no NaN or infinity, so such values come as null or as text. */
export type Sampled = number | string | null;
export interface LiveError {
  type: 'error';
  errorType: string;
  error: string;
}
export type Message = { id: string; type: string; at_ms?: number | number[] };

export type LiveState = 'idle' | 'connecting' | 'open' | 'lost';
export const liveState = signal<LiveState>('idle');

interface Sub {
  topic: Topic;
  take: (message: never) => void;
}

const BACKOFF_MIN = 400;
const BACKOFF_MAX = 15_000;
/** The server speaks at least this often on an open host topic; silence means a dead connection. */
const SILENCE_MAX = 20_000;

const subs = new Map<string, Sub>();
let socket: WebSocket | null = null;
let serial = 0;
let backoff = BACKOFF_MIN;
let retry: ReturnType<typeof setTimeout> | null = null;
let watchdog: ReturnType<typeof setTimeout> | null = null;

function send(value: object): void {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(value));
}

function guard(): void {
  if (watchdog) clearTimeout(watchdog);
  watchdog = [...subs.values()].some((s) => s.topic.topic === 'host') ? setTimeout(() => socket?.close(), SILENCE_MAX) : null;
}

function connect(): void {
  if (socket || subs.size === 0 || locked.peek()) return;
  if (retry) clearTimeout(retry);
  retry = null;
  if (liveState.peek() !== 'lost') liveState.value = 'connecting';
  const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/api/v1/live`);
  socket = ws;
  let opened = false;
  ws.onopen = () => {
    opened = true;
    backoff = BACKOFF_MIN;
    liveState.value = 'open';
    reachable.value = true;
    for (const [id, s] of subs) send({ op: 'sub', id, ...s.topic });
    guard();
  };
  ws.onmessage = (e: MessageEvent<unknown>) => {
    guard();
    let message: Message;
    try {
      message = JSON.parse(String(e.data)) as Message;
    } catch {
      return;
    }
    if (message.type === 'delta' && typeof message.at_ms === 'number') learn(message.at_ms);
    subs.get(message.id)?.take(message as never);
  };
  ws.onclose = () => {
    if (socket !== ws) return;
    socket = null;
    if (watchdog) clearTimeout(watchdog);
    if (subs.size === 0) {
      liveState.value = 'idle';
      return;
    }
    liveState.value = 'lost';
    // A refused handshake looks like a lost connection; a plain request tells which it was.
    if (!opened) loadSelf().catch(() => undefined);
    retry = setTimeout(connect, backoff * (0.75 + Math.random() / 2));
    backoff = Math.min(BACKOFF_MAX, backoff * 1.8);
  };
}

// A page that comes back into view, or a network that comes back, need not wait out the pause.
function hurry(): void {
  if (!socket && subs.size > 0 && !document.hidden) {
    backoff = BACKOFF_MIN;
    connect();
  }
}
document.addEventListener('visibilitychange', hurry);
addEventListener('online', hurry);
locked.subscribe((is) => {
  if (!is) hurry();
});

/** Subscribes; `take` gets each message of the topic. The returned function ends it. */
export function subscribe<M>(topic: Topic, take: (message: M) => void): () => void {
  const id = `s${(serial += 1)}`;
  subs.set(id, { topic, take: take as (message: never) => void });
  if (socket) send({ op: 'sub', id, ...topic });
  else connect();
  return () => {
    subs.delete(id);
    send({ op: 'unsub', id });
    if (subs.size === 0) {
      const ws = socket;
      // Leaving one page for another closes and opens within one turn: wait a little before hanging up.
      setTimeout(() => {
        if (subs.size === 0 && socket === ws) ws?.close();
      }, 2000);
    }
  };
}
