/** Runs before the first paint: sets the theme, so that a dark page never flashes white. */
let choice: string | null = null;
try {
  choice = localStorage.getItem('overseer.theme');
} catch {
  // Storage may be forbidden; the system's choice stands.
}
const dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
document.documentElement.dataset['theme'] = dark ? 'dark' : 'light';
