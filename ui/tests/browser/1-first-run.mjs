// Runs first: on a fresh server the card must still be waiting.
import assert from 'node:assert/strict';

export const tests = {
  'a card turns green when the first sample arrives, without a reload': async ({ open, write, until }) => {
    const { page } = await open();
    let polls = 0;
    page.on('request', (r) => {
      if (r.url().includes('/api/v1/intake')) polls += 1;
    });
    await page.goto('/');
    const way = page.locator('[data-way="json"]');
    await way.waitFor();
    await way.click();
    const card = page.locator('[data-card="json"]');
    await card.waitFor();
    const before = await way.getAttribute('data-state');
    await page.evaluate(() => {
      window.stayed = true;
    });
    if (before === 'waiting') assert.match(await card.innerText(), /waiting for the first sample/);
    const said = await card.innerText();
    await write([{ name: 'ui_first_run', value: 1, labels: { test: 'first-run' } }]);
    await until('the card says that data flows', async () => (await way.getAttribute('data-state')) === 'flowing');
    await until('the text follows', async () => /(first|last) sample (just now|\d+ s ago)/.test(await card.innerText()));
    if (before === 'waiting') assert.match(await way.innerText(), /first sample/);
    assert.notEqual(await card.innerText(), said);
    // The age counts on by itself.
    const now = await way.innerText();
    await until('the age counts on', async () => (await way.innerText()) !== now, 5000);
    assert.equal(await page.evaluate(() => window.stayed), true);
    assert.ok(polls <= 1, `asked ${polls} times for what is pushed`);
  },

  'lines to paste can be copied exactly': async ({ open, url }) => {
    const { page, context } = await open();
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
    await page.goto('/');
    await page.locator('[data-card] .code').first().waitFor();
    const text = await page.locator('[data-card] .code pre').first().textContent();
    await page.locator('[data-card] .code button').first().click();
    await page.getByText('Copied').first().waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
    assert.ok(text.trim().length > 10);
  },

  'cards can be put away and come back': async ({ open }) => {
    const { page } = await open();
    await page.goto('/');
    await page.getByRole('button', { name: 'Hide', exact: true }).click();
    await page.getByText(/ways in are flowing/).waitFor();
    await page.reload();
    await page.getByText(/ways in are flowing/).waitFor();
    await page.getByRole('button', { name: 'Show how to send data' }).click();
    await page.locator('[data-card]').waitFor();
  },
};
