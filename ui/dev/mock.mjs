// A stand-in for the server while the UI is worked on: ui/dist and the API the UI calls, over synthetic series.
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { WebSocketServer } from 'ws';
import { serveFile } from './files.mjs';
import { META, agentSeries, appSeries, hostSeries } from './metrics.mjs';
import { QueryError, evaluate, parse, select } from './promql.mjs';

const COOKIE = 'overseer_session';

/**
 * Starts the server. `hosts` is how many remote hosts there are besides this one; `ringSeconds` how far the live ring reaches back;
 * `token` asks for a login; `delayMs` slows range queries; `agent` false leaves the host out.
 */
/** A plan of one selector, under an aggregation where the query is one. */
function explained(text, series) {
  const base = { how: 'streamed', steps: 361, samples: 540, bytes: 2048, seriesIn: series, seriesOut: series, children: [] };
  const inner = /^sum by \(\w+\) \((.*)\)$/.exec(text);
  const start = inner ? text.length - 1 - inner[1].length : 0;
  const selector = {
    ...base, what: 'selector', text: inner?.[1] ?? text, start, end: inner ? text.length - 1 : text.length, seconds: 0.0031, ownSeconds: 0.0031,
    selector: { matchers: inner?.[1] ?? text, from: 1, to: 2, wants: 'samples', series, findSeconds: 0.0002, chunks: 6, chunkSamples: 540, bytes: 2048, headSamples: 12, rollupSamples: 0, rolledSamples: 0, files: 9, filesPrunedByTime: 5, filesPrunedByIndex: 1 },
  };
  const plan = inner ? { ...base, what: 'aggregation', name: 'sum', how: 'folded', text, start: 0, end: text.length, seconds: 0.004, ownSeconds: 0.0009, children: [selector] } : selector;
  const totals = {
    series, samples: 540, bytes: 2048, chunks: 6, headSamples: 12, rollupSamples: 0, rolledSamples: 0, files: 9, filesPrunedByTime: 5, filesPrunedByIndex: 1, peakBytes: 300000, threads: 2,
    parseSeconds: 0.00003, queueSeconds: 0.0001, prepareSeconds: 0.0002, evalSeconds: 0.0042, sortSeconds: 0.00002, serialiseSeconds: 0.0004,
  };
  return { plan, totals };
}

export async function start({ port = 0, hosts = 0, ringSeconds = 600, token = null, delayMs = 0, agent = true, app = true, startedMs = Date.now() - 93 * 60_000, name = hostname() } = {}) {
  const own = agent ? [...hostSeries(name, 'overseer-agent', 1, 4), ...agentSeries(name, 'overseer-agent', 1)] : [];
  const rest = [];
  for (let i = 0; i < hosts; i += 1) rest.push(...hostSeries(`${['web', 'db', 'cache', 'queue'][i % 4]}-${1 + Math.floor(i / 4)}.internal:9100`, 'node', 100 + i * 17, 4));
  if (app) rest.push(...appSeries());
  for (const s of [...own, ...rest]) {
    const f = s.value;
    // The store begins two hours back, and holds nothing of the future.
    s.value = (t) => (t * 1000 < Date.now() - 2 * 3600_000 || t * 1000 > Date.now() + 1500 ? null : f(t));
    s.live = f;
  }
  /** Written by POST /api/v1/metrics: label key to {labels, points}. */
  const written = new Map();
  const all = () => [...own, ...rest, ...written.values()];

  const address = () => `http://127.0.0.1:${server.address().port}`;
  const taken = {};
  const way = (id, name, doc, lines) => ({ id, name, doc, lines, first_ms: taken[id]?.first ?? null, last_ms: taken[id]?.last ?? null, samples: taken[id]?.samples ?? 0 });
  const ways = () => [
    way('remote_write', 'Prometheus remote write', 'Your Prometheus keeps scraping and sends every sample here as well. Versions 1.0 and 2.0 of the protocol are taken.', [
      { label: 'prometheus.yml', text: `remote_write:\n  - url: ${address()}/api/v1/write\n    protobuf_message: io.prometheus.write.v2.Request` },
    ]),
    way('otlp', 'OpenTelemetry (OTLP/HTTP)', 'Any OpenTelemetry SDK or Collector, protobuf or JSON.', [
      { label: 'environment of your program', text: `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=${address()}/v1/metrics\nOTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf` },
      { label: 'collector.yaml', text: `exporters:\n  otlphttp:\n    metrics_endpoint: ${address()}/v1/metrics` },
    ]),
    way('influx', 'Influx line protocol', 'Telegraf and every InfluxDB client, API versions 1 and 2.', [
      { label: 'telegraf.conf', text: `[[outputs.influxdb]]\n  urls = ["${address()}"]\n  skip_database_creation = true` },
      { label: 'shell', text: `curl -X POST '${address()}/write?precision=s' --data-binary 'room,name=kitchen temperature=21.5'` },
    ]),
    way('json', 'JSON', 'One sample or many from a script, without a library.', [
      { label: 'shell', text: `curl -X POST ${address()}/api/v1/metrics -d '{"name":"hello","value":1,"labels":{"from":"me"}}'` },
    ]),
    way('scrape', 'Scraping', 'Overseer fetches Prometheus text or OpenMetrics from the targets you name.', [
      { label: 'overseer.yaml', text: 'scrape:\n  targets:\n    - job: node\n      address: 127.0.0.1:9100' },
    ]),
  ];

  const sockets = new Set();
  const take = (id, n) => {
    taken[id] ??= { first: Date.now(), samples: 0 };
    taken[id].last = Date.now();
    taken[id].samples += n;
    const one = ways().find((w) => w.id === id);
    for (const s of sockets) for (const [sub, topic] of s.subs) if (topic.topic === 'intake') s.say({ id: sub, type: 'delta', way: one });
  };
  const write = (list) => {
    for (const m of list) {
      const labels = { __name__: String(m.name), ...(m.labels ?? {}) };
      const key = JSON.stringify(Object.entries(labels).sort());
      let s = written.get(key);
      if (!s) {
        const points = [];
        s = {
          labels, points,
          value: (t, back = 300) => {
            for (let i = points.length - 1; i >= 0; i -= 1) if (points[i].at <= t * 1000 && points[i].at > (t - back) * 1000) return points[i].v;
            return null;
          },
        };
        written.set(key, s);
      }
      s.points.push({ at: typeof m.timestamp === 'string' ? Date.parse(m.timestamp) : (m.timestamp ?? Date.now()), v: Number(m.value) });
      s.points.sort((a, b) => a.at - b.at);
    }
    take('json', list.length);
  };

  const fmt = (v) => (Number.isNaN(v) ? 'NaN' : v === Infinity ? '+Inf' : v === -Infinity ? '-Inf' : String(v));
  const rangeOf = (expr, start, end, step) => {
    const tree = parse(expr);
    if (tree.op === 'select' && tree.range) throw new QueryError('invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector');
    if ((end - start) / step > 11000) throw new QueryError('exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)');
    const out = new Map();
    const list = all();
    for (let t = start; t <= end + 1e-6; t += step) {
      const v = evaluate(tree, t, list);
      for (const s of typeof v === 'number' ? [{ labels: {}, value: v }] : v) {
        const key = JSON.stringify(Object.entries(s.labels).sort());
        let o = out.get(key);
        if (!o) out.set(key, (o = { labels: s.labels, at: [], values: [] }));
        o.at.push(Math.round(t * 1000));
        o.values.push(s.value);
      }
    }
    const notes = [];
    if (/\brate\(\w*(?<!_total|_bucket|_count|_sum)(\{[^}]*\})?\[/.test(expr)) notes.push('PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket');
    return { series: [...out.values()], infos: notes };
  };

  const server = createServer(async (req, res) => {
    const url = new URL(req.url, 'http://x');
    const json = (status, body) => {
      res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
      res.end(JSON.stringify(body));
    };
    const ok = (data, more = {}) => json(200, { status: 'success', data, ...more });
    const bad = (status, errorType, error) => json(status, { status: 'error', errorType, error });
    try {
      let body = '';
      for await (const chunk of req) body += chunk;
      if (!url.pathname.startsWith('/api/')) return serveFile(url.pathname, req, res);
      if (url.pathname === '/api/v1/login') {
        let given = null;
        try {
          given = JSON.parse(body).token;
        } catch {
          return bad(400, 'bad_data', 'the body must be JSON: {"token":"…"}');
        }
        if (given !== token) return bad(401, 'unauthorized', 'wrong token');
        res.setHeader('set-cookie', `${COOKIE}=1; HttpOnly; SameSite=Strict; Path=/`);
        return json(200, { status: 'success' });
      }
      if (token !== null && !(req.headers.cookie ?? '').includes(`${COOKIE}=1`)) return bad(401, 'unauthorized', 'a token is needed');
      const p = new URLSearchParams(url.search);
      if ((req.headers['content-type'] ?? '').includes('form')) for (const [k, v] of new URLSearchParams(body)) p.append(k, v);
      const picked = () => {
        const sets = p.getAll('match[]').map((m) => parse(m).matchers);
        return sets.length === 0 ? all() : [...new Set(sets.flatMap((m) => select(all(), m)))];
      };
      switch (url.pathname) {
        case '/api/v1/self':
          return json(200, { version: '0.1.0', roles: ['ingress', 'processor', 'store', 'gateway', ...(agent ? ['agent'] : [])], data_dir: '/var/lib/overseer', listen: address().slice(7), auth: token === null ? 'none' : 'token', started_ms: startedMs, host: name, agent });
        case '/api/v1/intake':
          return json(200, { ways: ways() });
        case '/api/v1/metrics': {
          const given = JSON.parse(body);
          const list = Array.isArray(given) ? given : [given];
          write(list);
          return json(200, { accepted: list.length });
        }
        case '/api/v1/status/buildinfo':
          return ok({ version: '0.1.0', revision: 'dc931a4f00ba', branch: 'main', goVersion: '' });
        case '/api/v1/status/slow_queries':
          return ok({ slowMs: 1000, file: null, total: 0, queries: [] });
        case '/api/v1/status/cardinality':
          return ok({ seriesMax: 5_000_000, metricSeriesMax: 1_000_000, series: all().length, breaches: [], metric: null, blame: null });
        case '/api/v1/status/tsdb': {
          const by = new Map();
          const values = new Map();
          for (const s of all()) {
            by.set(s.labels.__name__, (by.get(s.labels.__name__) ?? 0) + 1);
            for (const [k, v] of Object.entries(s.labels)) (values.get(k) ?? values.set(k, new Set()).get(k)).add(v);
          }
          const top = (m) => [...m].map(([n, v]) => ({ name: n, value: v })).sort((a, b) => b.value - a.value).slice(0, Number(p.get('limit') ?? 10));
          return ok({ headStats: { numSeries: all().length, numLabelPairs: [...values.values()].reduce((s, v) => s + v.size, 0), chunkCount: 0, minTime: Date.now() - 7_200_000, maxTime: Date.now() }, seriesCountByMetricName: top(by), labelValueCountByLabelName: top(new Map([...values].map(([k, v]) => [k, v.size]))), memoryInBytesByLabelName: [], seriesCountByLabelValuePair: [] });
        }
        case '/api/v1/metadata':
          return ok(META);
        case '/api/v1/labels':
          return ok([...new Set(picked().flatMap((s) => Object.keys(s.labels)))].sort());
        case '/api/v1/series':
          return ok(picked().map((s) => s.labels));
        case '/api/v1/query_range': {
          if (delayMs) await new Promise((r) => setTimeout(r, delayMs));
          const got = rangeOf(p.get('query') ?? '', Number(p.get('start')), Number(p.get('end')), Number(p.get('step')));
          const data = { resultType: 'matrix', result: got.series.map((s) => ({ metric: s.labels, values: s.at.map((t, i) => [t / 1000, fmt(s.values[i])]) })) };
          if (p.get('explain')) data.explain = explained(p.get('query') ?? '', got.series.length);
          return ok(data, got.infos.length ? { infos: got.infos } : {});
        }
        case '/api/v1/query': {
          const t = Number(p.get('time') ?? Date.now() / 1000);
          const tree = parse(p.get('query') ?? '');
          if (tree.op === 'select' && tree.range) {
            return ok({ resultType: 'matrix', result: select(all(), tree.matchers).map((s) => ({ metric: s.labels, values: Array.from({ length: 5 }, (_, i) => t - (4 - i) * 10).map((x) => [x, fmt(s.value(x) ?? 0)]) })) });
          }
          const v = evaluate(tree, t, all());
          if (typeof v === 'number') return ok({ resultType: 'scalar', result: [t, fmt(v)] });
          return ok({ resultType: 'vector', result: v.map((s) => ({ metric: s.labels, value: [t, fmt(s.value)] })) });
        }
      }
      const values = /^\/api\/v1\/label\/([^/]+)\/values$/.exec(url.pathname);
      if (values) return ok([...new Set(picked().map((s) => s.labels[decodeURIComponent(values[1])]).filter((v) => v !== undefined))].sort());
      return bad(404, 'not_found', `no such path: ${url.pathname}`);
    } catch (e) {
      return bad(e instanceof QueryError ? 400 : 500, e instanceof QueryError ? 'bad_data' : 'internal', e.message);
    }
  });

  const wss = new WebSocketServer({ noServer: true });
  server.on('upgrade', (req, socket, head) => {
    const locked = token !== null && !(req.headers.cookie ?? '').includes(`${COOKIE}=1`);
    if (!req.url.startsWith('/api/v1/live') || locked) {
      socket.end(`HTTP/1.1 ${locked ? 401 : 404} no\r\n\r\n`);
      return;
    }
    wss.handleUpgrade(req, socket, head, (ws) => {
      ws.subs = new Map();
      ws.timers = new Map();
      ws.say = (m) => ws.readyState === 1 && ws.send(JSON.stringify(m));
      sockets.add(ws);
      ws.on('close', () => {
        sockets.delete(ws);
        for (const t of ws.timers.values()) clearInterval(t);
      });
      ws.on('message', (data) => {
        const m = JSON.parse(String(data));
        if (m.op === 'unsub') {
          ws.subs.delete(m.id);
          clearInterval(ws.timers.get(m.id));
          ws.timers.delete(m.id);
          return;
        }
        ws.subs.set(m.id, m);
        const live = (s, t) => {
          const v = s.live(t);
          return v === undefined ? null : v;
        };
        if (m.topic === 'intake') ws.say({ id: m.id, type: 'snapshot', ways: ways() });
        if (m.topic === 'host') {
          if (!agent) return ws.say({ id: m.id, type: 'error', errorType: 'unavailable', error: 'no agent runs in this process' });
          const t = Math.floor(Date.now() / 1000);
          const at = Array.from({ length: ringSeconds }, (_, i) => t - ringSeconds + 1 + i);
          ws.say({ id: m.id, type: 'snapshot', at_ms: at.map((x) => x * 1000), series: own.map((s) => ({ labels: s.labels, values: at.map((x) => live(s, x)) })) });
          let last = t;
          ws.timers.set(m.id, setInterval(() => {
            const now = Math.floor(Date.now() / 1000);
            if (now > last) ws.say({ id: m.id, type: 'delta', at_ms: now * 1000, values: own.map((s) => live(s, now)) });
            last = Math.max(last, now);
          }, 250));
        }
        if (m.topic === 'query') {
          try {
            const step = m.step_ms / 1000;
            const end = Math.floor(Date.now() / m.step_ms) * step;
            const got = rangeOf(m.expr, end - Math.floor(m.range_ms / m.step_ms) * step, end, step);
            ws.say({ id: m.id, type: 'snapshot', start_ms: end * 1000 - m.range_ms, end_ms: end * 1000, step_ms: m.step_ms, series: got.series.map((s) => ({ labels: s.labels, at_ms: s.at, values: s.values })), warnings: [], infos: got.infos });
            let last = end;
            ws.timers.set(m.id, setInterval(() => {
              const t = Math.floor(Date.now() / m.step_ms) * step;
              if (t <= last) return;
              last = t;
              const one = rangeOf(m.expr, t, t, step);
              ws.say({ id: m.id, type: 'delta', at_ms: Math.round(t * 1000), series: one.series.map((s) => ({ labels: s.labels, value: s.values[0] })) });
            }, Math.min(250, m.step_ms)));
          } catch (e) {
            ws.say({ id: m.id, type: 'error', errorType: e instanceof QueryError ? 'bad_data' : 'internal', error: e.message });
          }
        }
      });
    });
  });

  await new Promise((done) => server.listen(port, '127.0.0.1', done));
  return {
    url: address(),
    /** Cuts every live connection, as a restart of the server would. */
    drop: () => sockets.forEach((s) => s.terminate()),
    stop: () => {
      sockets.forEach((s) => s.terminate());
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}
