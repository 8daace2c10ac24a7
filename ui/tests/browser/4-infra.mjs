import assert from 'node:assert/strict';

export const tests = {
  'the host moves by itself': async ({ open, self, until, ink }) => {
    if (!(await self()).agent) return 'no agent in this process';
    const { page } = await open();
    await page.goto('/infra');
    await page.evaluate(() => {
      window.stayed = true;
    });
    await until('CPU is drawn', async () => (await ink(page, '[data-panel="cpu"]')).count > 100, 15_000);
    const seen = new Set();
    await until('three different pictures', async () => seen.add((await ink(page, '[data-panel="cpu"]')).hash).size >= 3, 15_000);
    for (const name of ['CPU', 'Load', 'Memory', 'Network', 'File systems', 'Costliest processes']) await page.getByRole('region', { name, exact: true }).waitFor();
    assert.ok((await page.locator('[aria-label="File systems"] tbody tr').count()) > 0);
    await until('processes are listed', async () => (await page.locator('[aria-label="Costliest processes"] tbody tr').count()) > 0);
    assert.equal(await page.evaluate(() => window.stayed), true);
  },

  'the tiles of Now follow the host': async ({ open, self, until }) => {
    if (!(await self()).agent) return 'no agent in this process';
    const { page } = await open();
    await page.goto('/');
    await page.locator('.tile-value').first().waitFor();
    const seen = new Set();
    await until('the figures change', async () => seen.add((await page.locator('.tiles').innerText()).replace(/\s+/g, ' ')).size >= 3, 15_000);
    await page.locator('.tile').first().click();
    await page.locator('.bar-title').filter({ hasText: 'Infra' }).waitFor();
  },

  'all charts zoom together, and out again': async ({ open, self, until, ink }) => {
    if (!(await self()).agent) return 'no agent in this process';
    const { page, trouble } = await open();
    await page.goto('/infra');
    await until('drawn', async () => (await ink(page, '[data-panel="cpu"]')).count > 100, 15_000);
    const box = await page.locator('[data-panel="memory"] .u-over').boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + 40);
    await page.waitForTimeout(150);
    // The cursor shows on the other charts at the same time.
    const cursors = await page.evaluate(() => [...document.querySelectorAll('.u-cursor-x')].filter((e) => e.style.transform.includes('translate')).length);
    assert.ok(cursors >= 3, `${cursors} cursors`);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.95, box.y + 50, { steps: 6 });
    await page.mouse.up();
    await page.waitForFunction(() => location.search.includes('..'));
    assert.equal(await page.locator('.button.live').getAttribute('aria-pressed'), 'false');
    await page.waitForTimeout(1200);
    await page.keyboard.press('l');
    await until('live again', async () => (await page.locator('.button.live').getAttribute('aria-pressed')) === 'true');
    await until('drawn live', async () => (await ink(page, '[data-panel="cpu"]')).count > 100);
    assert.deepEqual(trouble, []);
  },

  'a window without samples says so': async ({ open }) => {
    const { page } = await open();
    await page.goto('/infra?t=2001-01-01T00:00:00Z..2001-01-01T01:00:00Z');
    await page.getByText(/No samples of this host|No agent runs/).waitFor();
  },
};
