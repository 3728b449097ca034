// Which token's gaze is shown: all of them, or one that is pointed at or chosen.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";

import type { Look } from "../documents";
import { percent } from "../format";
import { centre } from "../gaze";

interface Props {
  look: Look;
  /** `null` for all of them. */
  chosen: number | null;
  onChosen: (token: number | null) => void;
  /** What the pointer is over, until it leaves. */
  onPointed: (token: number | null | undefined) => void;
}

export function Tokens({ look, chosen, onChosen, onPointed }: Props): JSX.Element {
  const group = useRef<HTMLDivElement>(null);
  const picture = look.pictures[0];
  const count = picture?.visual_tokens ?? 0;
  const all: (number | null)[] = [null, ...Array.from({ length: count }, (_, token) => token)];
  const choose = (token: number | null) => {
    onChosen(token);
    const at = token === null ? 0 : token + 1;
    group.current?.querySelectorAll<HTMLButtonElement>("button")[at]?.focus();
  };
  const step = (event: KeyboardEvent) => {
    const at = chosen === null ? 0 : chosen + 1;
    const to: Record<string, number> = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: all.length - 1,
    };
    const next = to[event.key];
    if (next !== undefined) {
      event.preventDefault();
      choose(all[(next + all.length) % all.length] ?? null);
    }
  };
  return (
    <div class="tokens">
      <div class="chips" ref={group} role="radiogroup" aria-label="Token to show" onKeyDown={step}>
        {all.map((token) => (
          <button
            key={token ?? "all"}
            type="button"
            role="radio"
            aria-checked={token === chosen}
            aria-label={token === null ? "All tokens" : `Token ${token + 1}`}
            tabIndex={token === chosen ? 0 : -1}
            onClick={() => choose(token)}
            onPointerEnter={() => onPointed(token)}
            onPointerLeave={() => onPointed(undefined)}
          >
            {token === null ? "All" : token + 1}
          </button>
        ))}
      </div>
      <p class="hint" role="status">
        {picture && chosen !== null ? sentence(look, chosen) : `${count} tokens; lines part what each looks at most.`}
      </p>
    </div>
  );
}

function sentence(look: Look, token: number): string {
  const picture = look.pictures[0];
  if (!picture) {
    return "";
  }
  const [row, column, share] = centre(look, picture, token);
  const [rows, columns] = look.grid;
  return `Token ${token + 1} looks most at row ${row + 1} of ${rows}, column ${column + 1} of ${columns} (${percent(share)}).`;
}
