import { useLayoutEffect, useState } from "preact/hooks";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const NAMES: Record<Theme, string> = { system: "As the system", light: "Light", dark: "Dark" };
const PLACE = "foveate-theme";

function kept(): Theme {
  try {
    const found = localStorage.getItem(PLACE);
    return THEMES.find((theme) => theme === found) ?? "system";
  } catch {
    return "system";
  }
}

/** Dark, light, or what the system says. */
export function ThemeChoice(): preact.JSX.Element {
  const [theme, setTheme] = useState(kept);
  useLayoutEffect(() => {
    const root = document.documentElement;
    if (theme === "system") {
      delete root.dataset.theme;
    } else {
      root.dataset.theme = theme;
    }
    try {
      localStorage.setItem(PLACE, theme);
    } catch {
      // A browser that keeps nothing.
    }
    window.dispatchEvent(new Event("themechange"));
  }, [theme]);
  return (
    <label class="theme">
      <span>Theme</span>
      <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
        {THEMES.map((name) => (
          <option key={name} value={name}>
            {NAMES[name]}
          </option>
        ))}
      </select>
    </label>
  );
}
