// The picture: chosen, dropped or pasted, and what is drawn over it.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Example, Look } from "../documents";
import { draw } from "../gaze";
import { Problem } from "../parts";
import type { PictureState } from "./use-picture";

interface Props {
  of: PictureState;
  examples: Example[];
  onExample: (example: Example) => void;
  onOwn: (blob: Blob, name: string) => void;
  look: Look | null;
  token: number | null;
}

export function PicturePanel({ of, examples, onExample, onOwn, look, token }: Props): JSX.Element {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const take = (file: File | null | undefined) => {
    if (file) {
      onOwn(file, file.name || "picture");
    }
  };
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      const file = [...(event.clipboardData?.files ?? [])].find((found) => found.type.startsWith("image/"));
      if (file) {
        event.preventDefault();
        onOwn(file, file.name || "pasted picture");
      }
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  }, [onOwn]);
  // A picture that misses its place must not replace the page.
  useEffect(() => {
    const ignore = (event: DragEvent) => event.preventDefault();
    window.addEventListener("dragover", ignore);
    window.addEventListener("drop", ignore);
    return () => {
      window.removeEventListener("dragover", ignore);
      window.removeEventListener("drop", ignore);
    };
  }, []);

  const { picture, uploading, problem } = of;
  return (
    <section class="panel" aria-labelledby="picture-title">
      <h2 id="picture-title">Picture</h2>
      <div
        class={`drop${over ? " over" : ""}${picture ? " full" : ""}`}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          take(event.dataTransfer?.files[0]);
        }}
      >
        {picture ? (
          <Stage key={picture.url} url={picture.url} name={picture.name} look={look} token={token} />
        ) : (
          <p>{uploading ? "Sending the picture …" : "Drop or paste a picture here"}</p>
        )}
        <div class="row">
          <input
            ref={input}
            id="file"
            class="hidden-input"
            type="file"
            accept="image/png,image/jpeg,image/webp,image/gif,image/bmp"
            onChange={(event) => {
              take(event.currentTarget.files?.[0]);
              // So that the same file can be chosen again.
              event.currentTarget.value = "";
            }}
          />
          <label for="file" class="button">
            {picture ? "Choose another picture" : "Choose a picture"}
          </label>
          {picture && (
            <button
              type="button"
              onClick={() => {
                of.clear();
                input.current?.focus();
              }}
            >
              Remove
            </button>
          )}
        </div>
      </div>
      {problem && <Problem>{problem}</Problem>}
      {examples.length > 0 && (
        <fieldset class="examples">
          <legend>Or one of these, which this program drew</legend>
          {examples.map((example) => (
            <button key={example.name} type="button" onClick={() => onExample(example)}>
              <img src={example.picture} alt={`Example ${example.name}`} width="64" height="64" />
            </button>
          ))}
        </fieldset>
      )}
    </section>
  );
}

/** Of a picture, in rem. */
const TALLEST = 22;

interface StageProps {
  url: string;
  name: string;
  look: Look | null;
  token: number | null;
}

/** The picture with an overlay of the same shape. */
function Stage({ url, name, look, token }: StageProps): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<[number, number] | null>(null);
  // Of a model that tiles the overview: it is the whole image.
  const picture = look?.pictures[0];
  // A canvas that is new, or of a new size, is never shown empty.
  useLayoutEffect(() => {
    if (canvas.current && look && picture) {
      draw(canvas.current, look, picture, token);
    }
  }, [look, picture, token, size]);
  // Enough pixels for a sharp grid, whatever the picture has.
  const scale = size ? 960 / Math.max(...size) : 1;
  return (
    // As large as there is room for, in its own shape.
    <div class="stage" style={size ? { width: `min(100%, ${((TALLEST * size[0]) / size[1]).toFixed(3)}rem)` } : {}}>
      <img
        src={url}
        alt={`The picture that is asked about: ${name}`}
        onLoad={(event) => {
          const { naturalWidth, naturalHeight } = event.currentTarget;
          setSize([naturalWidth || 1, naturalHeight || 1]);
        }}
      />
      {look && size && (
        <canvas
          ref={canvas}
          aria-hidden="true"
          width={Math.max(1, Math.round(size[0] * scale))}
          height={Math.max(1, Math.round(size[1] * scale))}
        />
      )}
    </div>
  );
}
