// What only a server under our thumb can show: lost connections, slow answers, a token.
import assert from 'node:assert/strict';
import { start } from '../../dev/mock.mjs';

export const tests = {
  'a lost connection is shown, and mends by itself': async ({ open, mock, until, ink }) => {
    if (!mock) return 'needs the mock server';
    const own = await start({ app: false, name: 'atlas' });
    const { page, forgive } = await open({}, own.url);
    await page.goto('/infra');
    await until('drawn', async () => (await ink(page, '[data-panel="cpu"]')).count > 100, 15_000);
    const port = new URL(own.url).port;
    await own.stop();
    await page.getByText(/Reconnecting|unreachable/).waitFor();
    assert.ok((await ink(page, '[data-panel="cpu"]')).count > 100, 'the old chart stays');
    const again = await start({ port: Number(port), app: false, name: 'atlas' });
    await page.getByText(/Reconnecting|unreachable/).waitFor({ state: 'detached', timeout: 20_000 });
    const seen = new Set();
    await until('it moves again', async () => seen.add((await ink(page, '[data-panel="cpu"]')).hash).size >= 2, 15_000);
    forgive(/WebSocket|ERR_CONNECTION|Failed to load resource/);
    await page.goto('about:blank');
    await again.stop();
  },

  'the old chart stays until the new one is there': async ({ open, mock, until, ink }) => {
    if (!mock) return 'needs the mock server';
    const own = await start({ app: false, name: 'atlas', delayMs: 900 });
    const { page } = await open({}, own.url);
    const t = (from, to) => `${new Date(Date.now() - from * 60_000).toISOString()}..${new Date(Date.now() - to * 60_000).toISOString()}`;
    await page.goto(`/explore?q=node_load1&t=${t(30, 10)}`);
    await until('waiting shows after a while', async () => (await page.locator('.results.waiting').count()) === 1);
    await until('drawn', async () => (await ink(page, '.results')).count > 200);
    await page.keyboard.press('[');
    await page.waitForTimeout(250);
    assert.equal(await page.locator('.legend-row').count(), 1, 'the legend stays');
    assert.equal(await page.locator('.results .uplot').count(), 1, 'the chart stays');
    await until('the new one is there', async () => (await page.locator('.results.waiting').count()) === 0);
    await own.stop();
  },

  'a token is asked for, and opens the door': async ({ open, mock, until }) => {
    if (!mock) return 'needs the mock server';
    const own = await start({ token: 'open sesame', app: false, name: 'atlas' });
    const { page, forgive } = await open({}, own.url);
    await page.goto('/infra?t=10m');
    const field = page.getByLabel('Token');
    await field.waitFor();
    await field.fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByText('That is not the token').waitFor();
    await field.fill('open sesame');
    await page.keyboard.press('Enter');
    await page.locator('[data-panel="cpu"]').waitFor();
    assert.match(page.url(), /\/infra\?t=10m$/);
    await until('live data flows', async () => (await page.locator('[aria-label="Costliest processes"] tbody tr').count()) > 0);
    forgive(/401/);
    await own.stop();
  },

  'a server without agent says how to get one': async ({ open, mock }) => {
    if (!mock) return 'needs the mock server';
    const own = await start({ agent: false, app: false, name: 'atlas' });
    const { page } = await open({}, own.url);
    await page.goto('/infra');
    await page.getByText('No agent runs in this process').waitFor();
    await page.goto('/explore');
    await page.getByText('No metrics yet').waitFor();
    await own.stop();
  },

  'another host draws from stored samples': async ({ open, mock, until, ink }) => {
    if (!mock) return 'needs the mock server';
    const { page } = await open();
    await page.goto('/');
    await page.getByRole('link', { name: /^web-1/ }).click();
    await until('drawn', async () => (await ink(page, '[data-panel="cpu"]')).count > 100, 20_000);
    assert.match(page.url(), /host=web-1/);
    await page.getByRole('button', { name: 'This host' }).click();
    await until('own host', async () => !page.url().includes('host='));
  },
};
