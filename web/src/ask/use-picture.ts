// The picture that is asked about. It is uploaded once; requests name it by its id.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { type Api, isAbort, Refused, told } from "../api";

export interface Picture {
  /** For this page alone. */
  url: string;
  name: string;
  id: string;
}

export interface PictureState {
  picture: Picture | null;
  uploading: boolean;
  problem: string | null;
  choose: (blob: Blob, name: string) => void;
  clear: () => void;
  /** Does `work` with the picture's id; once more with a new one where the server has forgotten it. */
  withId: <T>(work: (id: string) => Promise<T>) => Promise<T>;
}

export function usePicture(api: Api, onLocked: () => void): PictureState {
  const [picture, setPicture] = useState<Picture | null>(null);
  const [uploading, setUploading] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const current = useRef<{ blob: Blob; name: string; id: string } | null>(null);
  const control = useRef<AbortController | null>(null);

  const leave = useCallback(() => {
    control.current?.abort();
    if (current.current) {
      void api.forget(current.current.id);
      current.current = null;
    }
  }, [api]);
  const clear = useCallback(() => {
    leave();
    setPicture(null);
    setProblem(null);
    setUploading(false);
  }, [leave]);

  const choose = useCallback(
    (blob: Blob, name: string) => {
      leave();
      const own = new AbortController();
      control.current = own;
      setPicture(null);
      setProblem(null);
      setUploading(true);
      api.upload(blob, name, own.signal).then(
        (id) => {
          current.current = { blob, name, id };
          // Answers show it as long as the page is open.
          setPicture({ url: URL.createObjectURL(blob), name, id });
          setUploading(false);
        },
        (error: unknown) => {
          if (isAbort(error)) {
            return;
          }
          if (error instanceof Refused && error.status === 401) {
            onLocked();
          }
          setProblem(`${name}: ${told(error)}`);
          setUploading(false);
        },
      );
    },
    [api, leave, onLocked],
  );

  const withId = useCallback(
    async <T,>(work: (id: string) => Promise<T>): Promise<T> => {
      const before = current.current;
      if (!before) {
        throw new Refused("There is no picture.", 0);
      }
      try {
        return await work(before.id);
      } catch (error) {
        if (!(error instanceof Refused) || error.code !== "no_such_file") {
          throw error;
        }
        // Somebody else may have uploaded it again in the meantime.
        if (current.current === before) {
          const id = await api.upload(before.blob, before.name, new AbortController().signal);
          current.current = { ...before, id };
        }
        return work(current.current?.id ?? before.id);
      }
    },
    [api],
  );

  useEffect(() => {
    // A page that comes back sends its picture once more.
    const hide = () => current.current && void api.forget(current.current.id);
    window.addEventListener("pagehide", hide);
    return () => window.removeEventListener("pagehide", hide);
  }, [api]);
  return { picture, uploading, problem, choose, clear, withId };
}
