import { useEffect } from "preact/hooks";

/** Does `work` once nothing of `changes` has changed for a while; what is under way then is told to stop. */
export function useLater(ms: number, changes: readonly unknown[], work: (signal: AbortSignal) => void): void {
  useEffect(() => {
    const control = new AbortController();
    const timer = setTimeout(() => work(control.signal), ms);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
    // What `work` reads is what `changes` lists.
  }, changes);
}
