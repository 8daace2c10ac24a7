// Synthetic series for the mock server: names and labels as the agent sends them, values that look alive.
// Every value is a pure function of the time, so range queries and the live ring agree.

/** A repeatable number in [0, 1) for a seed. */
function hash(n) {
  let x = Math.imul(n ^ 0x9e3779b9, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
}

/** Smooth noise in [0, 1): values at whole multiples of the period, joined by cosines. */
function noise(t, period, seed) {
  const i = Math.floor(t / period);
  const f = t / period - i;
  const w = (1 - Math.cos(f * Math.PI)) / 2;
  return hash(i * 7919 + seed) * (1 - w) + hash((i + 1) * 7919 + seed) * w;
}

const wave = (t, seed) => 0.5 * noise(t, 190, seed) + 0.32 * noise(t, 23, seed + 1) + 0.18 * noise(t, 4, seed + 2);

/** A counter whose rate is `rate(t)`: the integral in steps of one second, cached every 60 s. */
function counter(rate) {
  const marks = new Map();
  const epoch = Math.floor(Date.now() / 1000) - 8 * 3600;
  const upTo = (minute) => {
    if (minute <= 0) return 0;
    let from = minute;
    while (from > 0 && !marks.has(from)) from -= 1;
    let sum = marks.get(from) ?? 0;
    for (let m = from; m < minute; m += 1) {
      for (let s = 0; s < 60; s += 1) sum += rate(epoch + m * 60 + s);
      marks.set(m + 1, sum);
    }
    return sum;
  };
  return (t) => {
    const s = t - epoch;
    if (s < 0) return null;
    const minute = Math.floor(s / 60);
    let sum = upTo(minute);
    for (let i = minute * 60; i < s; i += 1) sum += rate(epoch + i) * Math.min(1, s - i);
    return sum;
  };
}

export const META = {};
const meta = (name, type, help) => {
  META[name] = [{ type, help, unit: '' }];
};

/** Series of one host. `value(t)` takes Unix seconds and gives a number or null. */
export function hostSeries(instance, job, seed, cores) {
  const out = [];
  const id = { instance, job };
  const add = (name, labels, value) => out.push({ labels: { __name__: name, ...labels, ...id }, value });
  const busy = (t) => 0.04 + 0.55 * wave(t, seed) ** 2;
  const shares = { user: 0.62, system: 0.22, iowait: 0.07, nice: 0.01, irq: 0.02, softirq: 0.05, steal: 0.01 };
  for (let cpu = 0; cpu < cores; cpu += 1) {
    const own = (t) => Math.min(0.97, busy(t) * (0.7 + 0.6 * noise(t, 11, seed + 50 + cpu)));
    for (const [mode, share] of Object.entries(shares)) {
      add('node_cpu_seconds_total', { cpu: String(cpu), mode }, counter((t) => own(t) * share * (0.8 + 0.4 * noise(t, 7, seed + cpu + share * 1000))));
    }
    add('node_cpu_seconds_total', { cpu: String(cpu), mode: 'idle' }, counter((t) => 1 - own(t)));
  }
  const load = (t, period) => Number((cores * 1.3 * noise(t, period, seed + 9) * (0.6 + wave(t, seed))).toFixed(2));
  add('node_load1', {}, (t) => load(t, 60));
  add('node_load5', {}, (t) => load(t, 280));
  add('node_load15', {}, (t) => load(t, 800));
  const gib = 2 ** 30;
  const total = cores * 4 * gib * 0.97;
  const used = (t) => total * (0.34 + 0.12 * noise(t, 500, seed + 20) + 0.02 * noise(t, 9, seed + 21));
  const cached = (t) => total * (0.28 + 0.08 * noise(t, 900, seed + 22));
  add('node_memory_MemTotal_bytes', {}, () => total);
  add('node_memory_MemFree_bytes', {}, (t) => Math.round(total - used(t) - cached(t) - 0.03 * total));
  add('node_memory_MemAvailable_bytes', {}, (t) => Math.round(total - used(t)));
  add('node_memory_Cached_bytes', {}, (t) => Math.round(cached(t)));
  add('node_memory_Buffers_bytes', {}, () => Math.round(total * 0.02));
  add('node_memory_SReclaimable_bytes', {}, () => Math.round(total * 0.01));
  add('node_memory_SwapTotal_bytes', {}, () => 2 * gib);
  add('node_memory_SwapFree_bytes', {}, (t) => Math.round(2 * gib * (0.86 + 0.02 * noise(t, 300, seed + 30))));
  for (const [device, k] of [['nvme0n1', 1], ['sdb', 0.2]]) {
    const burst = (t, s) => (noise(t, 37, s) > 0.72 ? 9 : 1) * noise(t, 3, s + 1) * 6e6 * k;
    add('node_disk_read_bytes_total', { device }, counter((t) => burst(t, seed + 60 + k * 10)));
    add('node_disk_written_bytes_total', { device }, counter((t) => burst(t, seed + 70 + k * 10) * 1.7 + 2e5));
    add('node_disk_io_time_seconds_total', { device }, counter((t) => Math.min(1, burst(t, seed + 60 + k * 10) / 6e7)));
  }
  for (const [device, k] of [['eth0', 1], ['lo', 0.3]]) {
    add('node_network_receive_bytes_total', { device }, counter((t) => (2e5 + 5e6 * wave(t, seed + 80) ** 3) * k));
    add('node_network_transmit_bytes_total', { device }, counter((t) => (1e5 + 2e6 * wave(t, seed + 90) ** 3) * k));
    add('node_network_receive_errs_total', { device }, () => 0);
    add('node_network_transmit_errs_total', { device }, () => 0);
    add('node_network_receive_drop_total', { device }, counter((t) => (noise(t, 61, seed + 95) > 0.85 ? 0.4 * k : 0)));
    add('node_network_transmit_drop_total', { device }, () => 0);
  }
  for (const [mount, device, fstype, size, share] of [
    ['/', '/dev/nvme0n1p2', 'ext4', 218, 0.61],
    ['/var/lib/overseer', '/dev/sdb1', 'xfs', 931, 0.37],
    ['/boot/efi', '/dev/nvme0n1p1', 'vfat', 0.5, 0.06],
    ['/srv/backup/with/a/rather/long/mount/point/that/never/ends', '/dev/mapper/vg0-backup', 'ext4', 1862, 0.94],
    ['/run', 'tmpfs', 'tmpfs', 1.5, 0.01],
  ]) {
    add('node_filesystem_size_bytes', { mountpoint: mount, device, fstype }, () => size * gib);
    add('node_filesystem_avail_bytes', { mountpoint: mount, device, fstype }, (t) => size * gib * (1 - share + 0.004 * noise(t, 700, seed)));
  }
  const press = (t, s, k) => k * Math.max(0, wave(t, s) - 0.45);
  add('node_pressure_cpu_waiting_seconds_total', {}, counter((t) => press(t, seed, 0.4)));
  add('node_pressure_memory_waiting_seconds_total', {}, counter((t) => press(t, seed + 31, 0.03)));
  add('node_pressure_memory_stalled_seconds_total', {}, counter((t) => press(t, seed + 31, 0.01)));
  add('node_pressure_io_waiting_seconds_total', {}, counter((t) => press(t, seed + 60, 0.2)));
  add('node_pressure_io_stalled_seconds_total', {}, counter((t) => press(t, seed + 60, 0.12)));
  add('node_context_switches_total', {}, counter((t) => 4000 + 22000 * wave(t, seed + 33)));
  add('node_intr_total', {}, counter((t) => 2500 + 9000 * wave(t, seed + 34)));
  add('node_forks_total', {}, counter((t) => 8 * noise(t, 12, seed + 35)));
  add('node_procs_running', {}, (t) => Math.round(1 + 4 * noise(t, 5, seed + 36)));
  add('node_procs_blocked', {}, (t) => (noise(t, 41, seed + 37) > 0.8 ? 1 : 0));
  add('node_uname_info', { sysname: 'Linux', release: '6.1.0-28-amd64', machine: 'x86_64', nodename: instance.split(':')[0] }, () => 1);
  add('up', {}, (t) => (instance.startsWith('cache') && noise(t, 300, seed) > 0.2 ? 0 : 1));
  return out;
}

/** What only the agent of this process sends. */
export function agentSeries(instance, job, seed) {
  const out = [];
  const id = { instance, job };
  const comms = ['postgres', 'overseer', 'node', 'java', 'nginx', 'redis-server', 'systemd-journald', 'kworker/u8:2-events_unbound', 'dockerd', 'containerd-shim-runc-v2-with-a-name-far-too-long', 'sshd', 'chrony', 'python3', 'gitea', 'caddy', 'cron'];
  comms.forEach((comm, i) => {
    const labels = { pid: String(400 + i * 317), comm, ...id };
    out.push({ labels: { __name__: 'overseer_agent_process_cpu_seconds_total', ...labels }, value: counter((t) => (0.9 * noise(t, 17, seed + i) ** 3) / (1 + i / 3)) });
    out.push({ labels: { __name__: 'overseer_agent_process_resident_memory_bytes', ...labels }, value: (t) => Math.round((1.4e9 / (1 + i * 0.9)) * (0.9 + 0.1 * noise(t, 90, seed + i))) });
  });
  out.push({ labels: { __name__: 'process_cpu_seconds_total', ...id }, value: counter((t) => 0.012 + 0.02 * noise(t, 9, seed)) });
  out.push({ labels: { __name__: 'process_resident_memory_bytes', ...id }, value: (t) => Math.round(61e6 + 4e6 * noise(t, 200, seed)) });
  return out;
}

/** Series beyond the hosts: an application, and two thousand of one kind for the cap. */
export function appSeries() {
  const out = [];
  for (const route of ['/', '/login', '/api/orders', '/api/orders/{id}', '/health']) {
    for (const code of ['200', '404', '500']) {
      const k = code === '200' ? 1 : code === '404' ? 0.06 : 0.015;
      out.push({ labels: { __name__: 'http_requests_total', route, code, instance: 'shop:8080', job: 'shop' }, value: counter((t) => 120 * k * wave(t, route.length * 13 + Number(code))) });
    }
  }
  for (const [i, le] of ['0.005', '0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '+Inf'].entries()) {
    out.push({ labels: { __name__: 'http_request_duration_seconds_bucket', le, instance: 'shop:8080', job: 'shop' }, value: counter((t) => 100 * Math.min(1, ((i + 1) / 9) * (0.6 + 0.4 * noise(t, 80, 5)))) });
  }
  for (let i = 0; i < 2000; i += 1) {
    out.push({ labels: { __name__: 'queue_depth', queue: `orders-${String(i).padStart(4, '0')}`, instance: 'mq:9100', job: 'mq' }, value: (t) => Math.round(400 * wave(t, 1000 + i * 3) * hash(i)) });
  }
  return out;
}

for (const [name, type, help] of [
  ['node_cpu_seconds_total', 'counter', 'Seconds the CPUs spent in each mode.'],
  ['node_load1', 'gauge', '1m load average.'],
  ['node_load5', 'gauge', '5m load average.'],
  ['node_load15', 'gauge', '15m load average.'],
  ['node_memory_MemTotal_bytes', 'gauge', 'Memory information field MemTotal_bytes.'],
  ['node_memory_MemAvailable_bytes', 'gauge', 'Memory information field MemAvailable_bytes.'],
  ['node_memory_MemFree_bytes', 'gauge', 'Memory information field MemFree_bytes.'],
  ['node_disk_read_bytes_total', 'counter', 'The total number of bytes read successfully.'],
  ['node_disk_written_bytes_total', 'counter', 'The total number of bytes written successfully.'],
  ['node_network_receive_bytes_total', 'counter', 'Network device statistic receive_bytes.'],
  ['node_network_transmit_bytes_total', 'counter', 'Network device statistic transmit_bytes.'],
  ['node_filesystem_avail_bytes', 'gauge', 'Filesystem space available to non-root users in bytes.'],
  ['http_requests_total', 'counter', 'Requests answered, by route and status code.'],
  ['http_request_duration_seconds', 'histogram', 'Time to answer a request.'],
  ['queue_depth', 'gauge', 'Messages waiting in the queue.'],
  ['up', 'gauge', '1 when the last scrape of the target succeeded.'],
]) meta(name, type, help);
