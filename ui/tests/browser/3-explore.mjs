import assert from 'node:assert/strict';

const run = `r${Date.now().toString(36)}`;
let written = false;

/** A wave of 60 points, 10 s apart, in three series. */
async function wave(write) {
  if (written) return;
  const now = Math.floor(Date.now() / 10_000) * 10_000;
  const samples = [];
  for (const color of ['red', 'green', 'blue']) {
    for (let i = 0; i < 60; i += 1) {
      samples.push({ name: 'ui_wave', value: Math.round(1000 * (2 + Math.sin(i / 6 + color.length))) / 10, timestamp: now - (59 - i) * 10_000, labels: { run, color } });
    }
  }
  await write(samples);
  written = true;
}

const show = (q) => `/explore?q=${encodeURIComponent(q)}`;

export const tests = {
  'a typed query runs and draws': async ({ open, write, until, ink }) => {
    await wave(write);
    const { page } = await open();
    await page.goto('/explore');
    const editor = page.getByLabel('Query A', { exact: true });
    await editor.waitFor();
    await editor.click();
    await page.keyboard.type(`ui_wave{run="${run}`);
    await page.keyboard.press('Control+Enter');
    assert.equal(await editor.inputValue(), `ui_wave{run="${run}"}`);
    await until('the chart has lines', async () => (await ink(page, '.results')).count > 500);
    await page.locator('.legend-row').nth(2).waitFor();
    assert.equal(await page.locator('.legend-row').count(), 3);
    const text = await page.locator('.legend').innerText();
    for (const color of ['red', 'green', 'blue']) assert.ok(text.includes(`color="${color}"`), text);
    assert.match(await page.locator('[data-stats]').innerText(), /3 series/);
    const shown = new URL(page.url()).searchParams.get('q');
    assert.equal(shown, `ui_wave{run="${run}"}`);
    // A click isolates, another one ends it.
    const all = (await ink(page, '.results')).count;
    await page.locator('.legend-row').first().click();
    await until('one line is left', async () => (await ink(page, '.results')).count < all * 0.8);
    await page.locator('.legend-row').first().click();
    await until('all are back', async () => (await page.locator('.legend-row.dim').count()) === 0);
  },

  'the inspector shows the plan, and the link keeps it': async ({ open, write, until }) => {
    await wave(write);
    const q = `sum by (color) (ui_wave{run="${run}"})`;
    for (const options of [{}, { colorScheme: 'light', viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }]) {
      const { page, trouble } = await open(options);
      await page.goto(show(q));
      await page.getByRole('tab', { name: 'Inspect' }).focus();
      await page.keyboard.press('Enter');
      const rows = page.locator('.node-row');
      await until('both nodes are there', async () => (await rows.count()) === 2);
      assert.match(await rows.first().innerText(), /^sum by \(color\) \(…\)/);
      assert.match(await page.locator('.figures').innerText(), /Files read\s+[\d\s]+ of [\d\s]+\s+passed over/);
      assert.match(await page.locator('.phase-names').innerText(), /find series/);
      // by keyboard: down to the selector, and open it
      await rows.first().focus();
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await page.locator('.node-details').waitFor();
      assert.match(await page.locator('.node-details').innerText(), /by time, \d+ by index/);
      const wanted = new URL(page.url()).searchParams;
      assert.deepEqual([wanted.get('tab'), wanted.get('node')], ['inspect', 'A0']);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'too wide');
      await page.reload();
      await page.locator('.node-details').waitFor();
      await page.getByRole('button', { name: 'Measure again' }).click();
      await until('it is measured', async () => (await rows.count()) === 2);
      assert.deepEqual(trouble, []);
    }
  },

  'a still window asks once and draws': async ({ open, write, until, ink }) => {
    await wave(write);
    const { page } = await open();
    const asked = [];
    page.on('request', (r) => r.url().includes('/query_range') && asked.push(r.url()));
    const [from, to] = [Date.now() - 8 * 60_000, Date.now() - 60_000].map((t) => new Date(Math.floor(t / 1000) * 1000).toISOString());
    await page.goto(`${show(`ui_wave{run="${run}"}`)}&t=${from}..${to}`);
    await until('the chart has lines', async () => (await ink(page, '.results')).count > 500);
    await page.waitForTimeout(1500);
    assert.equal(asked.length, 1);
    await page.getByRole('tab', { name: 'Stacked' }).click();
    await until('areas are filled', async () => (await ink(page, '.results')).count > 20_000);
  },

  'a mistake is shown where it is': async ({ open, until }) => {
    const { page, forgive } = await open();
    await page.goto(show('sum by (x) (rate(up[5m])'));
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /parse error/);
    assert.ok((await page.locator('.editor.bad').count()) === 1);
    await until('the place is underlined', async () => (await page.locator('.wavy').count()) > 0);
    // The same over HTTP, in a still window.
    await page.goto(`${show('up{job=}')}&t=2026-11-20T10:00:00Z..2026-11-20T11:00:00Z`);
    await alert.waitFor();
    assert.ok((await page.locator('.wavy').count()) > 0);
    forgive(/400 \(Bad Request\)/);
    // Mending it clears the mark.
    await page.getByLabel('Query A', { exact: true }).fill('vector(1)');
    await page.keyboard.press('Control+Enter');
    await alert.waitFor({ state: 'detached' });
  },

  'names are completed': async ({ open, write }) => {
    await wave(write);
    const { page } = await open();
    await page.goto('/explore');
    const editor = page.getByLabel('Query A', { exact: true });
    await editor.click();
    await page.keyboard.type('ui_wa');
    await page.getByRole('option', { name: 'ui_wave' }).first().waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await editor.inputValue(), 'ui_wave');
    await page.keyboard.type('{col');
    await page.getByRole('option', { name: /color/ }).first().waitFor();
    await page.keyboard.press('Tab');
    await page.getByRole('option', { name: /green/ }).first().waitFor();
    await page.keyboard.type('gr');
    await page.keyboard.press('Tab');
    assert.equal(await editor.inputValue(), 'ui_wave{color="green"}');
    await editor.fill('');
    await page.keyboard.type('histogram_q');
    await page.getByRole('option', { name: /histogram_quantile/ }).waitFor();
    assert.match(await page.locator('.popup-doc').innerText(), /quantile/);
    await page.keyboard.press('Enter');
    assert.equal(await editor.inputValue(), 'histogram_quantile()');
    await page.keyboard.press('Control+z');
    assert.notEqual(await editor.inputValue(), 'histogram_quantile()');
  },

  'the table lists instant values, live and still': async ({ open, write, until }) => {
    await wave(write);
    const { page } = await open();
    const check = async () => {
      await until('three rows', async () => (await page.locator('.result-table tbody tr').count()) === 3);
      const text = await page.locator('.result-table').innerText();
      assert.ok(/red/.test(text) && /blue/.test(text), text);
    };
    await page.goto(`${show(`ui_wave{run="${run}"}`)}&tab=table`);
    await check();
    const at = Date.now() - 120_000;
    await page.goto(`${show(`ui_wave{run="${run}"}`)}&tab=table&t=${new Date(at - 300_000).toISOString()}..${new Date(at).toISOString()}`);
    await check();
    // A range selector has no chart, but a table.
    await page.goto(`${show(`ui_wave{run="${run}"}[5m]`)}&tab=table`);
    await check();
  },

  'several queries, switched off and removed': async ({ open, write, until }) => {
    await wave(write);
    const { page } = await open();
    await page.goto(show(`ui_wave{run="${run}",color="red"}`));
    await page.locator('.legend-row').first().waitFor();
    await page.getByRole('button', { name: 'Add query' }).click();
    await page.getByLabel('Query B', { exact: true }).click();
    await page.keyboard.type('vector(50)');
    await page.keyboard.press('Control+Enter');
    await until('two lines', async () => (await page.locator('.legend-row').count()) === 2);
    await page.getByRole('button', { name: 'A', exact: true }).click();
    await until('A is off', async () => (await page.locator('.legend-row').count()) === 1);
    assert.equal(new URL(page.url()).searchParams.get('off'), 'A');
    await page.reload();
    await until('still off', async () => (await page.locator('.legend-row').count()) === 1);
    await page.getByRole('button', { name: 'Remove query A' }).click();
    await until('one query', async () => (await page.locator('.query').count()) === 1);
    assert.deepEqual(new URL(page.url()).searchParams.getAll('q'), ['vector(50)']);
    await page.getByRole('button', { name: 'History' }).click();
    await page.locator('.past-row').filter({ hasText: 'ui_wave' }).first().click();
    await until('the old query is back', async () => (await page.getByLabel('Query A', { exact: true }).inputValue()).startsWith('ui_wave'));
  },

  'state survives reload, back and a copied link': async ({ open, write, until, ink, url }) => {
    await wave(write);
    const { page, context } = await open();
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
    await page.goto(show(`ui_wave{run="${run}"}`));
    await until('drawn', async () => (await ink(page, '.results')).count > 500);
    const live = page.url();
    const box = await page.locator('.results .u-over').boundingBox();
    await page.mouse.move(box.x + box.width * 0.5, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + 70, { steps: 4 });
    await page.mouse.move(box.x + box.width * 0.8, box.y + 70, { steps: 4 });
    await page.mouse.up();
    await page.waitForFunction(() => location.search.includes('..'));
    const zoomed = page.url();
    const shownTime = await page.getByLabel('Time range').inputValue();
    await page.reload();
    await until('drawn again', async () => (await ink(page, '.results')).count > 200);
    assert.equal(page.url(), zoomed);
    assert.equal(await page.getByLabel('Time range').inputValue(), shownTime);
    await page.goBack();
    await until('back at the live window', async () => page.url() === live);
    assert.match(await page.getByLabel('Time range').inputValue(), /^last /);
    await page.getByRole('button', { name: /Copy a link/ }).click();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(decodeURIComponent(copied), /t=\d{4}-\d\d-\d\dT[\d:]+Z\.\.\d{4}/);
    assert.ok(copied.startsWith(url));
  },

  'data is inert, whatever it holds': async ({ open, write, until }) => {
    const evil = ['<img src=x onerror="window.hacked=1">', '"><script>window.hacked=1</script>', 'javascript:window.hacked=1', "'};window.hacked=1;//", '\u202Egnirts', '{{constructor.constructor("window.hacked=1")()}}'];
    const now = Date.now();
    await write(evil.flatMap((v, i) => [30, 20, 10, 0].map((s) => ({ name: 'ui_evil', value: i + s, timestamp: now - s * 1000, labels: { run, payload: v } }))));
    const { page } = await open();
    const q = `ui_evil{run="${run}"}`;
    for (const path of [show(q), `${show(q)}&tab=table`, show(evil[0]), `/infra?host=${encodeURIComponent(evil[0])}`, `/?way=${encodeURIComponent(evil[0])}`]) {
      await page.goto(path);
      await page.locator('.bar-title').waitFor();
      await page.waitForTimeout(700);
      assert.equal(await page.evaluate(() => window.hacked), undefined, path);
      assert.equal(await page.locator('main img, main script, main iframe').count(), 0, path);
    }
    await page.goto(`${show(q)}&tab=table`);
    await until('the payload is read as text', async () => (await page.locator('.result-table').innerText()).includes(evil[0]));
    // In the tooltip and in completion as well.
    await page.goto(show(q));
    await page.locator('.legend-row').first().waitFor();
    const box = await page.locator('.results .u-over').boundingBox();
    await page.mouse.move(box.x + box.width * 0.985, box.y + 50);
    await page.waitForTimeout(300);
    const editor = page.getByLabel('Query A', { exact: true });
    await editor.fill('ui_evil{payload=');
    await page.keyboard.press('End');
    await page.keyboard.press('Control+Space');
    await page.getByRole('option').filter({ hasText: '<img' }).waitFor();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator('main img, main script').count(), 0);
  },

  'more than five hundred series are capped, and said to be': async ({ open, write, until, ink }) => {
    const now = Date.now();
    const many = Array.from({ length: 620 }, (_, i) => [60, 40, 20, 0].map((s) => ({ name: 'ui_many', value: i + (s % 7), timestamp: now - s * 1000, labels: { run, n: String(i) } }))).flat();
    for (let i = 0; i < many.length; i += 500) await write(many.slice(i, i + 500));
    const { page } = await open();
    await page.goto(show(`ui_many{run="${run}"}`));
    await page.getByText(/500 largest of 620/).waitFor();
    await until('drawn', async () => (await ink(page, '.results')).count > 500);
    assert.ok((await page.locator('.legend-row').count()) < 60, 'the legend keeps only rows in view');
    await page.locator('.legend-head button').filter({ hasText: 'max' }).click();
    await until('largest first', async () => /n="6\d\d"/.test(await page.locator('.legend-row').first().innerText()));
  },

  'an empty answer says what to do': async ({ open }) => {
    const { page } = await open();
    await page.goto(show('ui_nothing_is_called_so'));
    await page.getByText(/nothing matches/).waitFor();
    await page.getByRole('button', { name: 'Look at the last day' }).click();
    await page.waitForFunction(() => location.search.includes('t=1d'));
  },
};
