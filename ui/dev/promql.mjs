// Just enough PromQL for the mock server: selectors, rates, aggregations, arithmetic with one-to-one matching.

export class QueryError extends Error {}

function lex(text) {
  const out = [];
  const re = /\s+|#[^\n]*|(?<dur>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)|(?<num>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|(?<str>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)|(?<id>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?<op>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){}[\],@])/y;
  while (re.lastIndex < text.length) {
    const at = re.lastIndex;
    const m = re.exec(text);
    if (!m) throw problem(text, at, `unexpected character: '${text[at]}'`);
    const [kind] = Object.entries(m.groups).find(([, v]) => v !== undefined) ?? [];
    if (kind) out.push({ kind, text: m[0], at });
  }
  out.push({ kind: 'end', text: 'end of input', at: text.length });
  return out;
}

function problem(text, at, why) {
  const before = text.slice(0, at).split('\n');
  return new QueryError(`invalid parameter "query": ${before.length}:${before.at(-1).length + 1}: parse error: ${why}`);
}

const AGG = new Set(['sum', 'avg', 'min', 'max', 'count', 'group', 'topk', 'bottomk', 'quantile', 'stddev']);
const FUNCS = new Set(['rate', 'irate', 'increase', 'avg_over_time', 'max_over_time', 'min_over_time', 'last_over_time', 'abs', 'ceil', 'floor', 'sqrt', 'vector', 'time', 'histogram_quantile', 'clamp_min', 'clamp_max', 'sort', 'sort_desc', 'delta', 'deriv']);
const LEVEL = { or: 1, and: 2, unless: 2, '==': 3, '!=': 3, '<': 3, '>': 3, '<=': 3, '>=': 3, '+': 4, '-': 4, '*': 5, '/': 5, '%': 5, '^': 6 };
const UNIT = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };

export const seconds = (d) => [...d.matchAll(/(\d+)(ms|[smhdwy])/g)].reduce((s, [, n, u]) => s + Number(n) * UNIT[u], 0);
const unquote = (s) => (s[0] === '`' ? s.slice(1, -1) : s.slice(1, -1).replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c)));

export function parse(text) {
  const tokens = lex(text);
  let i = 0;
  const peek = () => tokens[i];
  const fail = (why) => {
    throw problem(text, peek().at, why ?? `unexpected ${peek().kind === 'end' ? 'end of input' : `"${peek().text}"`}`);
  };
  const eat = (t) => (peek().text === t && peek().kind !== 'str' ? (i += 1, true) : false);
  const want = (t) => eat(t) || fail(`unexpected ${peek().kind === 'end' ? 'end of input' : `"${peek().text}"`}, expected "${t}"`);
  const names = () => {
    want('(');
    const out = [];
    while (!eat(')')) {
      if (peek().kind !== 'id') fail();
      out.push(tokens[i++].text);
      if (!eat(',') && peek().text !== ')') fail();
    }
    return out;
  };
  const args = () => {
    want('(');
    const out = [];
    while (!eat(')')) {
      out.push(peek().kind === 'str' ? { op: 'str', value: unquote(tokens[i++].text) } : binary(0));
      if (!eat(',') && peek().text !== ')') fail();
    }
    return out;
  };
  const selector = (name) => {
    const matchers = name ? [{ label: '__name__', how: '=', value: name }] : [];
    if (eat('{')) {
      while (!eat('}')) {
        if (peek().kind !== 'id') fail(`unexpected ${peek().kind === 'end' ? 'end of input' : `"${peek().text}"`} in label matching, expected label or "}"`);
        const label = tokens[i++].text;
        const how = tokens[i++].text;
        if (!['=', '!=', '=~', '!~'].includes(how)) {
          i -= 1;
          fail();
        }
        if (peek().kind !== 'str') fail();
        const value = unquote(tokens[i++].text);
        matchers.push({ label, how, value, re: how.includes('~') ? new RegExp(`^(?:${value})$`) : null });
        if (!eat(',') && peek().text !== '}') fail();
      }
    }
    let range = null;
    if (eat('[')) {
      if (peek().kind !== 'dur') fail('bad duration');
      range = seconds(tokens[i++].text);
      want(']');
    }
    let offset = 0;
    if (eat('offset')) offset = seconds(tokens[i++].text);
    return { op: 'select', matchers, range, offset };
  };
  const atom = () => {
    const t = peek();
    if (t.kind === 'num') return i += 1, { op: 'num', value: Number(t.text) };
    if (eat('-')) return { op: 'bin', name: '*', left: { op: 'num', value: -1 }, right: atom() };
    if (eat('(')) {
      const e = binary(0);
      want(')');
      return e;
    }
    if (t.text === '{') return selector(null);
    if (t.kind !== 'id') fail();
    i += 1;
    if (AGG.has(t.text) && /^(\(|by|without)$/.test(peek().text)) {
      let how = null;
      let labels = [];
      const group = () => {
        if (peek().text === 'by' || peek().text === 'without') {
          how = tokens[i++].text;
          labels = names();
        }
      };
      group();
      const list = args();
      group();
      return { op: 'agg', name: t.text, how, labels, args: list };
    }
    if (peek().text === '(') {
      if (!FUNCS.has(t.text)) {
        i -= 1;
        fail(`unknown function with name "${t.text}"`);
      }
      const at = i;
      const list = args();
      if (/rate$|increase|_over_time|delta|deriv/.test(t.text) && list[0]?.range == null) {
        i = at + 1;
        fail(`expected type range vector in call to function "${t.text}", got instant vector`);
      }
      return { op: 'call', name: t.text, args: list };
    }
    return selector(t.text);
  };
  const binary = (level) => {
    let left = atom();
    for (;;) {
      const name = peek().text;
      const l = peek().kind === 'str' ? undefined : LEVEL[name];
      if (l === undefined || l < level + 1) return left;
      i += 1;
      eat('bool');
      let on = null;
      if (peek().text === 'on' || peek().text === 'ignoring') on = { how: tokens[i++].text, labels: names() };
      left = { op: 'bin', name, left, right: binary(l), on };
    }
  };
  if (tokens.length === 1) throw new QueryError('invalid parameter "query": unknown position: parse error: no expression found in input');
  const tree = binary(0);
  if (peek().kind !== 'end') fail();
  return tree;
}

const STALE = 300;
const matches = (labels, m) => {
  const v = labels[m.label] ?? '';
  return m.how === '=' ? v === m.value : m.how === '!=' ? v !== m.value : m.how === '=~' ? m.re.test(v) : !m.re.test(v);
};
export const select = (series, matchers) => series.filter((s) => matchers.every((m) => matches(s.labels, m)));

const bare = ({ __name__, ...rest }) => rest;
const keyOf = (labels) => JSON.stringify(Object.entries(labels).sort());
const OPS = { '+': (a, b) => a + b, '-': (a, b) => a - b, '*': (a, b) => a * b, '/': (a, b) => a / b, '%': (a, b) => a % b, '^': (a, b) => a ** b };
const CMP = { '==': (a, b) => a === b, '!=': (a, b) => a !== b, '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b };
const group = (e, labels) => {
  if (e.how === 'by') return Object.fromEntries(e.labels.filter((l) => l in labels).map((l) => [l, labels[l]]));
  if (e.how === 'without') return Object.fromEntries(Object.entries(bare(labels)).filter(([l]) => !e.labels.includes(l)));
  return {};
};

/** Value of a tree at a time (Unix seconds): a number, or a list of {labels, value}. Series come from `series`. */
export function evaluate(e, t, series) {
  switch (e.op) {
    case 'num':
      return e.value;
    case 'select':
      return select(series, e.matchers).flatMap((s) => {
        const value = s.value(t - e.offset, STALE);
        return value === null ? [] : [{ labels: s.labels, value }];
      });
    case 'call': {
      if (e.name === 'time') return t;
      const arg = e.args.at(-1);
      if (arg?.range) {
        return select(series, arg.matchers).flatMap((s) => {
          const end = t - arg.offset;
          const [a, b] = [s.value(end - arg.range, STALE), s.value(end, arg.range)];
          if (b === null) return [];
          if (e.name === 'rate' || e.name === 'irate' || e.name === 'deriv') return a === null ? [] : [{ labels: bare(s.labels), value: Math.max(0, (b - a) / arg.range) }];
          if (e.name === 'increase' || e.name === 'delta') return a === null ? [] : [{ labels: bare(s.labels), value: b - a }];
          const all = Array.from({ length: 20 }, (_, i) => s.value(end - (arg.range * i) / 20, STALE)).filter((v) => v !== null);
          const value = e.name === 'max_over_time' ? Math.max(...all) : e.name === 'min_over_time' ? Math.min(...all) : e.name === 'last_over_time' ? b : all.reduce((x, y) => x + y, 0) / all.length;
          return [{ labels: e.name === 'last_over_time' ? s.labels : bare(s.labels), value }];
        });
      }
      if (e.name === 'vector') return [{ labels: {}, value: evaluate(e.args[0], t, series) }];
      if (e.name === 'histogram_quantile') return quantile(evaluate(e.args[0], t, series), evaluate(e.args[1], t, series));
      const v = evaluate(e.args[0], t, series);
      const k = e.args[1] ? evaluate(e.args[1], t, series) : 0;
      const f = { abs: Math.abs, ceil: Math.ceil, floor: Math.floor, sqrt: Math.sqrt, clamp_min: (x) => Math.max(x, k), clamp_max: (x) => Math.min(x, k) }[e.name];
      return f ? (typeof v === 'number' ? f(v) : v.map((x) => ({ labels: bare(x.labels), value: f(x.value) }))) : v;
    }
    case 'agg': {
      const list = evaluate(e.args.at(-1), t, series);
      const groups = new Map();
      for (const s of list) {
        const labels = group(e, s.labels);
        const key = keyOf(labels);
        (groups.get(key) ?? groups.set(key, { labels, list: [] }).get(key)).list.push(s);
      }
      return [...groups.values()].flatMap((g) => {
        const v = g.list.map((s) => s.value);
        const sum = v.reduce((a, b) => a + b, 0);
        switch (e.name) {
          case 'sum': return [{ labels: g.labels, value: sum }];
          case 'avg': return [{ labels: g.labels, value: sum / v.length }];
          case 'min': return [{ labels: g.labels, value: Math.min(...v) }];
          case 'max': return [{ labels: g.labels, value: Math.max(...v) }];
          case 'count': return [{ labels: g.labels, value: v.length }];
          case 'group': return [{ labels: g.labels, value: 1 }];
          default: {
            const k = evaluate(e.args[0], t, series);
            return [...g.list].sort((a, b) => (e.name === 'bottomk' ? a.value - b.value : b.value - a.value)).slice(0, k);
          }
        }
      });
    }
    case 'bin': {
      const [a, b] = [evaluate(e.left, t, series), evaluate(e.right, t, series)];
      const f = OPS[e.name];
      const c = CMP[e.name];
      if (typeof a === 'number' && typeof b === 'number') return f ? f(a, b) : Number(c(a, b));
      if (typeof b === 'number') return c ? a.filter((x) => c(x.value, b)) : a.map((x) => ({ labels: bare(x.labels), value: f(x.value, b) }));
      if (typeof a === 'number') return c ? b.filter((x) => c(a, x.value)) : b.map((x) => ({ labels: bare(x.labels), value: f(a, x.value) }));
      const sig = (l) => keyOf(e.on?.how === 'on' ? group({ how: 'by', labels: e.on.labels }, l) : group({ how: 'without', labels: e.on?.labels ?? [] }, l));
      const right = new Map(b.map((x) => [sig(x.labels), x]));
      if (e.name === 'or') return [...a, ...b.filter((x) => !a.some((y) => sig(y.labels) === sig(x.labels)))];
      if (e.name === 'and') return a.filter((x) => right.has(sig(x.labels)));
      if (e.name === 'unless') return a.filter((x) => !right.has(sig(x.labels)));
      return a.flatMap((x) => {
        const y = right.get(sig(x.labels));
        if (!y) return [];
        return c ? (c(x.value, y.value) ? [x] : []) : [{ labels: bare(x.labels), value: f(x.value, y.value) }];
      });
    }
    default:
      throw new QueryError(`cannot evaluate ${e.op}`);
  }
}

function quantile(q, buckets) {
  const groups = new Map();
  for (const b of buckets) {
    const { le, ...labels } = bare(b.labels);
    const key = keyOf(labels);
    (groups.get(key) ?? groups.set(key, { labels, list: [] }).get(key)).list.push({ le: le === '+Inf' ? Infinity : Number(le), n: b.value });
  }
  return [...groups.values()].map((g) => {
    const list = g.list.sort((a, b) => a.le - b.le);
    const rank = q * list.at(-1).n;
    const i = Math.max(0, list.findIndex((b) => b.n >= rank));
    const [lo, n0] = i === 0 ? [0, 0] : [list[i - 1].le, list[i - 1].n];
    const hi = list[i].le === Infinity ? lo : list[i].le;
    return { labels: g.labels, value: lo + (hi - lo) * ((rank - n0) / Math.max(1e-9, list[i].n - n0)) };
  });
}
