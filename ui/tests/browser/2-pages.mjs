import assert from 'node:assert/strict';

const PAGES = { '/': 'Now', '/explore': 'Explore', '/infra': 'Infra', '/about': 'About' };
const tests = {};

for (const scheme of ['dark', 'light']) {
  tests[`every page renders in ${scheme}`] = async ({ open }) => {
    const { page } = await open({ colorScheme: scheme });
    for (const [path, name] of Object.entries(PAGES)) {
      const response = await page.goto(path);
      assert.equal(response.status(), 200, path);
      const policy = response.headers()['content-security-policy'] ?? '';
      assert.match(policy, /default-src 'self'/, `${path} has no policy`);
      assert.doesNotMatch(policy, /unsafe/, path);
      await page.locator('.bar-title').filter({ hasText: name }).waitFor();
      await page.locator('main h1, main h2, main input, main section').first().waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), scheme);
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = Number(/\d+/.exec(ground)[0]) > 128;
      assert.equal(light, scheme === 'light', `${path}: ${ground}`);
      await page.waitForTimeout(700);
      assert.equal(await page.locator('main').innerText().then((t) => t.trim().length > 0), true, path);
    }
  };
}

tests['pages fit a phone'] = async ({ open }) => {
  const { page } = await open({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  for (const path of ['/', '/explore', '/explore?q=up', '/infra', '/about']) {
    await page.goto(path);
    await page.locator('.bar-title').waitFor();
    await page.waitForTimeout(900);
    const wide = await page.evaluate(() => {
      const main = document.querySelector('main');
      return { page: document.documentElement.scrollWidth, main: main.scrollWidth - main.clientWidth };
    });
    assert.ok(wide.page <= 390 && wide.main <= 1, `${path} is ${JSON.stringify(wide)} too wide`);
  }
};

tests['every control has a name'] = async ({ open }) => {
  const { page } = await open();
  for (const path of ['/', '/explore', '/explore?q=up&q=up', '/infra']) {
    await page.goto(path);
    await page.locator('.bar-title').waitFor();
    await page.waitForTimeout(600);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, a, input, textarea')]
        .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title || e.labels?.length))
        .map((e) => e.outerHTML.slice(0, 120)),
    );
    assert.deepEqual(nameless, [], path);
  }
};

tests['the theme is kept, and set before the first paint'] = async ({ open }) => {
  const { page } = await open({ colorScheme: 'light' });
  await page.goto('/');
  const button = page.getByRole('button', { name: /^Theme/ });
  await button.click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await button.click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
};

tests['keys go everywhere'] = async ({ open }) => {
  const { page } = await open();
  await page.goto('/');
  const title = page.locator('.bar-title');
  await title.waitFor();
  for (const [keys, name] of [['gi', 'Infra'], ['ge', 'Explore']]) {
    await page.locator('body').press(keys[0]);
    await page.keyboard.press(keys[1]);
    await title.filter({ hasText: name }).waitFor();
  }
  // The query field may hold the focus; Escape leaves it.
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.keyboard.press('/');
  await page.waitForFunction(() => document.activeElement?.dataset.focus === 'query');
  await page.keyboard.press('Control+k');
  await page.getByRole('dialog', { name: 'Commands' }).waitFor();
  await page.keyboard.type('infra');
  await page.keyboard.press('Enter');
  await title.filter({ hasText: 'Infra' }).waitFor();
  await page.keyboard.press('l');
  await page.waitForFunction(() => /t=\d{4}-.*\.\./.test(decodeURIComponent(location.search)));
  const still = page.url();
  await page.keyboard.press('[');
  await page.waitForFunction((u) => location.href !== u, still);
  await page.keyboard.press(']');
  await page.keyboard.press('z');
  await page.keyboard.press('l');
  await page.waitForFunction(() => /t=\d+m$/.test(location.search));
  await page.keyboard.press('t');
  await page.keyboard.type('2026-11-20 14:00..15:00');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => decodeURIComponent(location.search).includes('2026-11-20T'));
  await page.goBack();
  await page.waitForFunction(() => /t=\d+m$/.test(location.search));
  await page.keyboard.press('t');
  await page.keyboard.type('gibberish');
  await page.getByText(/try 15m/).waitFor();
  await page.keyboard.press('Enter');
  assert.match(page.url(), /t=\d+m$/);
};

export { tests };
