// The frame of the page: which model answers, the two views, the key where the server wants one.

import type { JSX } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { Api, Refused, told } from "./api";
import { AskView } from "./ask/view";
import type { Model } from "./documents";
import { LawView } from "./law/view";
import { Problem } from "./parts";
import { ThemeChoice } from "./theme";

const VIEWS = { ask: "Ask", law: "The law" } as const;
type View = keyof typeof VIEWS;

function viewOfAddress(): View {
  return location.hash === "#law" ? "law" : "ask";
}

export function Page(): JSX.Element {
  const api = useMemo(() => new Api(), []);
  const [model, setModel] = useState<Model | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [locked, setLocked] = useState(false);
  const [view, setView] = useState(viewOfAddress);

  const open = useCallback(async () => {
    setProblem(null);
    try {
      const [first] = await api.models();
      setModel(first ?? null);
      setLocked(false);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        setLocked(true);
        setProblem(api.key ? "This is not the server's key." : null);
      } else {
        setProblem(told(error));
      }
    }
  }, [api]);
  useEffect(() => void open(), [open]);
  useEffect(() => {
    const follow = () => setView(viewOfAddress());
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, []);
  // Also a server that is started anew with another key.
  const onLocked = useCallback(() => setLocked(true), []);

  const vision = model?.foveate.compressor;
  return (
    <>
      <header class="top">
        <h1>
          <img src="./page/icon.svg" alt="" width="28" height="28" /> foveate
        </h1>
        <p class="model">
          {model && (
            <>
              <strong>{model.id}</strong>
              {vision ? `, ${vision}` : ", a language model without sight"}
            </>
          )}
        </p>
        <nav aria-label="Views">
          {(Object.keys(VIEWS) as View[]).map((name) => (
            <a key={name} href={`#${name}`} aria-current={view === name ? "page" : undefined}>
              {VIEWS[name]}
            </a>
          ))}
          <a href="./docs/">API</a>
        </nav>
        <ThemeChoice />
      </header>
      <main>
        {locked && <KeyForm api={api} problem={problem} onKey={open} />}
        {!locked && problem && (
          <>
            <Problem>{problem}</Problem>
            <button type="button" onClick={() => void open()}>
              Try again
            </button>
          </>
        )}
        {model && (
          <>
            <div hidden={locked || view !== "ask"}>
              <AskView api={api} model={model} onLocked={onLocked} />
            </div>
            {!locked && view === "law" && <LawView api={api} onLocked={onLocked} />}
          </>
        )}
      </main>
      <footer>
        <a href="./page/licences.md">Licences of what this page is made of</a>
      </footer>
    </>
  );
}

interface KeyProps {
  api: Api;
  problem: string | null;
  onKey: () => Promise<void>;
}

function KeyForm({ api, problem, onKey }: KeyProps): JSX.Element {
  const field = useRef<HTMLInputElement>(null);
  // Before anything is typed into nothing.
  useLayoutEffect(() => field.current?.focus(), []);
  const submit = (event: Event) => {
    event.preventDefault();
    api.key = field.current?.value ?? "";
    void onKey();
  };
  return (
    <form class="panel key" onSubmit={submit}>
      <h2>This server wants its key</h2>
      <label for="key">API key</label>
      <div class="row">
        <input id="key" ref={field} type="password" autocomplete="off" required />
        <button type="submit" class="primary">
          Open
        </button>
      </div>
      <p class="hint">It is kept in memory alone and ends with this page.</p>
      {problem && <Problem>{problem}</Problem>}
    </form>
  );
}
