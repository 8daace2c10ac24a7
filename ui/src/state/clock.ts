/** The clock of the server as seen from here, and a signal that ticks each second for "3 s ago". */
import { signal } from '@preact/signals';

let skew = 0;
let best = Number.POSITIVE_INFINITY;

/** Learns from a time stamp the server has just sent (Unix ms). Small differences are delay, not skew. */
export function learn(serverMs: number): void {
  const diff = serverMs - Date.now();
  if (Math.abs(diff) < Math.abs(best) || Math.abs(diff - skew) > 60_000) {
    best = diff;
    skew = Math.abs(diff) < 1500 ? 0 : diff;
  }
}

/** Now, Unix ms, by the server's clock as far as it is known. */
export function now(): number {
  return Date.now() + skew;
}

/** Unix ms, changes once a second while the page is visible. */
export const tick = signal(Date.now());

setInterval(() => {
  if (!document.hidden) tick.value = now();
}, 1000);
