/** Asks for the token of this server. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { login } from '../state/api.ts';

export function Login() {
  const [token, setToken] = useState('');
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    if (busy || token.trim() === '') return;
    setBusy(true);
    setError(null);
    try {
      await login(token.trim());
    } catch (x) {
      setError(x instanceof Error ? x.message : String(x));
      input.current?.select();
    }
    setBusy(false);
  };
  return (
    <main class="login">
      <form onSubmit={(e) => void submit(e)}>
        <h1>Overseer</h1>
        <p>This server asks for its token. It stands in the file that <code>--token-file</code> names.</p>
        <label for="token">Token</label>
        <input id="token" ref={input} type="password" autocomplete="current-password" value={token} aria-invalid={error !== null} onInput={(e) => setToken(e.currentTarget.value)} />
        {error !== null && (
          <p class="wrong" role="alert">
            {error}
          </p>
        )}
        <button type="submit" class="button primary" disabled={busy || token.trim() === ''}>
          Log in
        </button>
      </form>
    </main>
  );
}
