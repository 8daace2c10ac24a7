/** The frame around the pages. */
import { useEffect } from 'preact/hooks';
import { About } from './pages/about.tsx';
import { Explore } from './pages/explore.tsx';
import { Infra } from './pages/infra.tsx';
import { Now } from './pages/now.tsx';
import { Bar, Rail } from './shell/bar.tsx';
import { Login } from './shell/login.tsx';
import { Palette } from './shell/palette.tsx';
import { Empty } from './shell/parts.tsx';
import { Sheet } from './shell/sheet.tsx';
import { locked, self, settled } from './state/api.ts';
import { page, path } from './state/route.ts';

export function App() {
  const name = page.value?.name;
  const host = self.value?.host;
  useEffect(() => {
    document.title = [name, host, 'Overseer'].filter(Boolean).join(' · ');
  }, [name, host]);
  if (locked.value) return <Login />;
  return (
    <>
      <Rail />
      <div class="body">
        <Bar />
        <main>{settled.value && current()}</main>
      </div>
      <Palette />
      <Sheet />
    </>
  );
}

function current() {
  switch (path.value) {
    case '/':
      return <Now />;
    case '/explore':
      return <Explore />;
    case '/infra':
      return <Infra />;
    case '/about':
      return <About />;
    default:
      return (
        <div class="page">
          <Empty title="There is no page here" text={`Nothing lives at ${path.value.slice(0, 80)}. The pages are on the rail; Ctrl-K finds everything.`} />
        </div>
      );
  }
}
