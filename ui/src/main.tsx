import './style/tokens.css';
import './style/shell.css';
import './style/pages.css';
import './style/editor.css';
import './style/inspect.css';
import { render } from 'preact';
import { App } from './app.tsx';
import { installKeys } from './shell/keys.ts';
import { loadSelf } from './state/api.ts';

const root = document.getElementById('app');
if (root) render(<App />, root);
installKeys();
loadSelf().catch(() => undefined);
