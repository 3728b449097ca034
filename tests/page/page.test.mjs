// The page in a browser, in front of `foveate serve`: what people do with it, and what they are told when it goes wrong.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { accessible, launch, photograph, visit } from "./browser.mjs";
import { serve } from "./server.mjs";

const picture = (name) => join(process.env.FIXTURES, "images", name);
const QUESTION = "How many shapes are there?";

let browser;
let server;
before(async () => {
  [browser, server] = await Promise.all([launch(), serve(["--max-image-bytes", "100KB"])]);
});
after(async () => {
  await browser?.close();
  await server?.end();
});

const cards = (page) => page.locator("article");
const answered = (page, count) =>
  page.waitForFunction((count) => document.querySelectorAll("article[aria-busy=false] .figures").length === count, count);
const figure = async (card, name) => {
  const group = card.locator(".figures > div").filter({ has: card.page().getByText(name, { exact: true }) });
  return (await group.locator("dd").textContent()) ?? "";
};
/** `1.23 MFLOP` as a number. */
const work = (text) => {
  const [number, unit] = text.split(" ");
  return Number(number) * { F: 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[unit[0]];
};
const upload = async (page, name) => {
  await page.locator("#file").setInputFiles(picture(name));
  await page.locator(".stage img").waitFor();
};
const ask = (page) => page.getByRole("button", { name: "Ask", exact: true }).click();

test("a picture, a question, two budgets, answers side by side", async () => {
  await visit(browser, server, {}, async (page) => {
    await upload(page, "cat.png");
    await page.getByRole("textbox", { name: "Question" }).fill(QUESTION);
    const slider = page.getByRole("slider", { name: "Tokens of the picture" });
    await slider.focus();
    await page.keyboard.press("Home");
    await page.locator(".cost dd").first().waitFor();
    assert.equal(await slider.getAttribute("aria-valuetext"), "1 visual token");
    await ask(page);
    await answered(page, 1);
    await slider.focus();
    await page.keyboard.press("End");
    await ask(page);
    await answered(page, 2);
    const [few, many] = [cards(page).nth(0), cards(page).nth(1)];
    assert.equal(await few.getByRole("heading").textContent(), "1 visual token");
    assert.equal(await many.getByRole("heading").textContent(), "144 visual tokens");
    assert.deepEqual([await figure(few, "image tokens"), await figure(many, "image tokens")], ["1", "144"]);
    assert.equal(await figure(few, "text tokens"), await figure(many, "text tokens"));
    for (const card of [few, many]) {
      assert.match(await figure(card, "time"), /^[\d.]+ m?s$/);
      assert.ok(work(await figure(card, "work")) > 0);
      assert.match(await card.locator(".hint").last().textContent(), /^Predicted: .* at most/);
      // Beside each other, not below.
    }
    const [left, right] = [await few.boundingBox(), await many.boundingBox()];
    assert.ok(left.x + left.width <= right.x && Math.abs(left.y - right.y) < 1, "side by side");
    assert.match(await page.locator("[aria-live=polite]").first().textContent(), /^Answer with 144 visual tokens: .* It took/);
    await few.getByRole("button", { name: "Remove this answer" }).click();
    assert.equal(await cards(page).count(), 1);
    await accessible(page);
  });
});

test("an example, every rung in one go, and a time instead of a number", async () => {
  await visit(browser, server, {}, async (page) => {
    await page.getByRole("button", { name: /^Example scene-1/ }).click();
    await page.locator(".stage img").waitFor();
    assert.notEqual(await page.locator("#question").inputValue(), "");
    const before = await page.locator("#question").inputValue();
    await page.locator(".suggestions button").nth(1).click();
    assert.notEqual(await page.locator("#question").inputValue(), before);
    await page.getByRole("button", { name: "Ask with 1, 4, 9, 16, 36, 144 tokens" }).click();
    await answered(page, 6);
    const headings = await cards(page).getByRole("heading").allTextContents();
    assert.deepEqual(headings, [1, 4, 9, 16, 36, 144].map((v) => `${v} visual token${v > 1 ? "s" : ""}`));
    assert.equal(await page.getByText("Right would be:").count(), 6);
    await page.getByRole("radio", { name: "Auto, in a time" }).check();
    await page.getByLabel(/within \(milliseconds\)/).fill("60000");
    await ask(page);
    await answered(page, 7);
    assert.match(await cards(page).nth(6).getByRole("heading").textContent(), /^\d+ visual tokens?, within 60000 ms$/);
    await photograph(page, "asked-light");
    // docs/figures/page.png
    await page.setViewportSize({ width: 1080, height: 900 });
    await page.getByRole("radio", { name: "A number" }).check();
    await page.getByRole("checkbox", { name: /^Show where/ }).check();
    await page.getByRole("radio", { name: "Token 4" }).click();
    await page.evaluate(() => scrollTo(0, 0));
    await photograph(page, "page", false);
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.emulateMedia({ colorScheme: "dark" });
    await accessible(page);
    await photograph(page, "asked-dark");
  });
});

test("what is counted is what is paid", async () => {
  await visit(browser, server, {}, async (page) => {
    await upload(page, "cat.png");
    await page.locator("#question").fill(QUESTION);
    const counted = page.locator(".cost .figures");
    await counted.waitFor();
    const told = await counted.locator("dd").allTextContents();
    await ask(page);
    await answered(page, 1);
    const card = cards(page).first();
    assert.equal(await figure(card, "image tokens"), told[2]);
    assert.equal(await figure(card, "text tokens"), told[3]);
    assert.ok(work(await figure(card, "work")) <= 1.01 * work(told[1]), "at most");
    await page.getByText("Where the work goes").click();
    const rows = await page.locator(".cost tbody th").allTextContents();
    assert.ok(rows.includes("vision tower") && rows.includes("reading the prompt"), String(rows));
  });
});

test("pictures are dropped and pasted", async () => {
  await visit(browser, server, {}, async (page) => {
    await page.locator(".drop").waitFor();
    for (const [kind, target] of [["drop", ".drop"], ["paste", "body"]]) {
      await page.evaluate(
        async ([kind, target]) => {
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 40;
          canvas.getContext("2d").fillRect(5, 5, 20, 20);
          const blob = await new Promise((done) => canvas.toBlob(done));
          const data = new DataTransfer();
          data.items.add(new File([blob], `${kind}.png`, { type: "image/png" }));
          const options = { bubbles: true, cancelable: true };
          const event =
            kind === "drop"
              ? new DragEvent("drop", { ...options, dataTransfer: data })
              : new ClipboardEvent("paste", { ...options, clipboardData: data });
          document.querySelector(target).dispatchEvent(event);
        },
        [kind, target],
      );
      await page.getByRole("img", { name: new RegExp(`${kind}\\.png`) }).waitFor();
    }
    await page.getByRole("button", { name: "Remove" }).click();
    await page.getByText("Drop or paste a picture here").waitFor();
    // Nothing of what was removed is left on the server.
    const files = await page.evaluate(async () => {
      for (let tries = 0; tries < 500; tries += 1) {
        const { data } = await (await fetch("v1/files")).json();
        if (!data.some((file) => /^(drop|paste)/.test(file.filename))) {
          return 0;
        }
      }
      return 1;
    });
    assert.equal(files, 0);
  });
});

test("where each token looks is drawn over the picture", async () => {
  await visit(browser, server, {}, async (page) => {
    await upload(page, "coffee-wide.png");
    await page.locator("#question").fill(QUESTION);
    await page.getByRole("checkbox", { name: "Show where each visual token looks" }).check();
    const chips = page.getByRole("radiogroup", { name: "Token to show" }).getByRole("radio");
    await chips.first().waitFor();
    assert.equal(await chips.count(), 1 + 16, "all of them, and each");
    // What is drawn: as many numbers as tell drawings apart.
    const drawn = () =>
      page.locator(".stage canvas").evaluate((canvas) => {
        // Read from a copy: the browser would slow the original down, and say so.
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        const cells = new Array(64).fill(0);
        for (let at = 0; at < data.length; at += 4) {
          const [x, y] = [(at / 4) % canvas.width, Math.floor(at / 4 / canvas.width)];
          // Amber on the dark, weighted by what covers the picture.
          const cell = 8 * Math.floor((8 * y) / canvas.height) + Math.floor((8 * x) / canvas.width);
          cells[cell] += (data[at] * data[at + 3]) / 255;
        }
        return cells.map(Math.round).join();
      });
    const settled = async (unlike) => {
      for (;;) {
        const now = await drawn();
        if (now !== unlike) {
          return now;
        }
      }
    };
    const all = await drawn();
    const seen = new Set([all]);
    let last = all;
    for (let token = 1; token <= 4; token += 1) {
      await chips.nth(token).hover();
      last = await settled(last);
      seen.add(last);
    }
    assert.equal(seen.size, 5, "every token has a drawing of its own");
    await page.mouse.move(0, 0);
    assert.equal(await settled(last), all, "pointing changes nothing for good");
    const [canvas, image] = [await page.locator(".stage canvas").boundingBox(), await page.locator(".stage img").boundingBox()];
    assert.deepEqual(canvas, image, "it covers the picture");
    // Another budget has other tokens.
    await page.getByRole("slider", { name: "Tokens of the picture" }).focus();
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.querySelectorAll("[role=radiogroup] [role=radio]").length === 145);
    await chips.nth(6).click();
    assert.match(await page.locator(".tokens [role=status]").textContent(), /^Token 6 looks most at row \d+ of \d+, column \d+ of \d+ \(/);
    await accessible(page);
    await photograph(page, "overlay-light");
  });
});

test("the law can be explored", async () => {
  await visit(browser, server, { path: "/#law" }, async (page) => {
    const best = page.locator("#best-title");
    const error = async () => Number(await page.locator(".error strong").textContent());
    await page.getByRole("img", { name: /^Predicted error falls from/ }).waitFor();
    const drawn = await page.locator(".chart canvas").evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((value) => value > 0);
    });
    assert.ok(drawn, "the chart is not empty");
    const slider = page.getByRole("slider", { name: "Work for a question" });
    await slider.focus();
    const heard = [];
    for (let nth = 0; nth < 4; nth += 1) {
      heard.push([await error(), await best.textContent()]);
      await page.keyboard.press("PageUp");
      await page.locator(".law[aria-busy=false]").waitFor();
    }
    const errors = heard.map(([error]) => error);
    assert.deepEqual(errors, [...errors].sort().reverse(), "more buys no more error");
    assert.ok(errors[3] < errors[0], `and less: ${errors}`);
    const said = await page.locator(".law [aria-live=polite]").textContent();
    assert.equal(said, `${await best.textContent()}, predicted error ${await page.locator(".error strong").textContent()}`);
    assert.match(heard[0][1], /^.+ with \d+ visual tokens?$/);
    assert.ok((await page.locator(".ranked tbody tr").count()) > 3);
    await photograph(page, "law-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await accessible(page);
    await photograph(page, "law-dark");
    await page.getByLabel("Budget of").selectOption("time");
    await page.getByRole("slider", { name: "Time for a question" }).waitFor();
    await page.locator(".breakdown caption").filter({ hasText: "Where the time goes" }).waitFor();
    assert.match(await page.locator(".breakdown td").first().textContent(), /^[\d.]+ m?s$/);
    await page.getByLabel("Task").selectOption("ocr");
    await page.getByLabel("Compressor").selectOption("identity");
    await page.locator(".law[aria-busy=false]").waitFor();
    assert.match(await best.textContent(), / with 576 visual tokens$/);
  });
  await visit(browser, server, { path: "/#law", refusals: 1 }, async (page) => {
    await page.getByLabel("Budget of").selectOption("memory");
    const slider = page.getByRole("slider", { name: "Memory" });
    await slider.focus();
    await page.keyboard.press("Home");
    await page.getByLabel("Compressor").selectOption("identity");
    await page.getByLabel("Text tokens").fill("40000");
    await page.getByRole("alert").filter({ hasText: "nothing fits" }).waitFor();
    await page.locator(".law[aria-busy=false]").waitFor();
    assert.equal(await page.locator("#best-title").textContent(), "Nothing");
    await accessible(page);
  });
});

test("refusals are told in the server's words", async () => {
  await visit(browser, server, { refusals: 4 }, async (page) => {
    const alert = (text) => page.getByRole("alert").filter({ hasText: text });
    const choose = (name, bytes) => page.locator("#file").setInputFiles({ name, mimeType: "image/png", buffer: bytes });
    await choose("notes.png", Buffer.from("These are notes."));
    await alert(/notes\.png: .*signature/).waitFor();
    await choose("large.png", Buffer.alloc(150_000));
    await alert(/large\.png: .*at most 100000 are allowed/).waitFor();
    await upload(page, "cat.png");
    assert.equal(await page.getByRole("alert").count(), 0, "what is right again is no longer wrong");
    await page.locator("#question").fill(QUESTION);
    await page.getByRole("radio", { name: "Auto, in a time" }).check();
    await page.getByLabel(/within \(milliseconds\)/).fill("0.001");
    await alert(/the least predicted time is [\d.]+ ms/).waitFor();
    await ask(page);
    await cards(page).getByRole("alert").filter({ hasText: "max_latency_ms is 0.001" }).waitFor();
    await accessible(page);
    await photograph(page, "refused");
  });
});

test("a ladder that has changed, and a picture that was forgotten", async () => {
  await visit(browser, server, { refusals: 2 }, async (page) => {
    // As after a new start with another model.
    await page.route("**/v1/models", async (route) => {
      const reply = await route.fetch();
      const models = await reply.json();
      models.data[0].foveate.ladder.rungs = [5];
      await route.fulfill({ response: reply, json: models });
    });
    await page.reload();
    await upload(page, "cat.png");
    await page.locator("#question").fill(QUESTION);
    await page.getByRole("alert").filter({ hasText: "144, 36, 16, 9, 4, 1" }).waitFor();
    await page.unroute("**/v1/models");
    await page.reload();
    await upload(page, "cat.png");
    await page.evaluate(async () => {
      const { data } = await (await fetch("v1/files")).json();
      await Promise.all(data.map((file) => fetch(`v1/files/${file.id}`, { method: "DELETE" })));
    });
    await page.locator("#question").fill(QUESTION);
    await ask(page);
    await answered(page, 1);
    assert.equal(await page.getByRole("alert").count(), 0, "it was sent once more");
  });
});

/** Waits until the server has no room for any request, or has some again. */
const full = async (server, wanted) => {
  for (;;) {
    const headers = { "Content-Type": "application/json" };
    const { status } = await fetch(`${server.origin}/v1/count`, { method: "POST", headers, body: "{}" });
    if ((status === 429) === wanted) {
      return;
    }
  }
};

test("a server that is busy, and one that has gone", async () => {
  const own = await serve();
  const held = [];
  try {
    await visit(browser, own, { refusals: 2 }, async (page) => {
      await page.getByRole("button", { name: /^Example scene-1/ }).click();
      await page.locator(".cost dd").first().waitFor();
      // Requests that are announced and never come, until there is room for no other.
      const head = `POST /v1/count HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${32 << 20}\r\n\r\n{`;
      for (let nth = 0; nth < 8; nth += 1) {
        const socket = connect(own.port, "127.0.0.1");
        socket.on("error", () => undefined);
        socket.write(head);
        held.push(socket);
      }
      await full(own, true);
      await ask(page);
      await cards(page).getByRole("alert").filter({ hasText: "at once; try again in 1 s" }).waitFor();
      for (const socket of held) {
        socket.destroy();
      }
      await full(own, false);
      await ask(page);
      await answered(page, 1);
      await own.end();
      await ask(page);
      await page.getByRole("alert").filter({ hasText: "Is it still running?" }).last().waitFor();
    });
  } finally {
    for (const socket of held) {
      socket.destroy();
    }
    await own.end();
  }
});

test("a server that wants its key gets it, and nobody else does", async () => {
  const own = await serve([], "open sesame");
  try {
    await visit(browser, own, { refusals: 2 }, async (page) => {
      const field = page.getByLabel("API key");
      await field.waitFor();
      assert.ok(await field.evaluate((element) => element === document.activeElement), "it has the focus");
      await accessible(page);
      await photograph(page, "key");
      await field.fill("sesame");
      await page.keyboard.press("Enter");
      await page.getByRole("alert").filter({ hasText: "not the server's key" }).waitFor();
      await field.fill("open sesame");
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByRole("button", { name: /^Example scene-1/ }).click();
      await page.locator(".stage img").waitFor();
      await ask(page);
      await answered(page, 1);
      const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
      assert.ok(!kept.includes("sesame"), kept);
      await page.reload();
      await page.getByLabel("API key").waitFor();
    });
  } finally {
    await own.end();
  }
});

test("models without sight, with a range, and with tokens as the picture needs", async () => {
  const models = join(process.env.FIXTURES, "models");
  const blind = await serve([join(models, "llama-tied")]);
  try {
    await visit(browser, blind, {}, async (page) => {
      await page.getByText("a language model without sight").waitFor();
      assert.equal(await page.locator("#file").count(), 0);
      await page.locator("#question").fill("Tell me.");
      await ask(page);
      await answered(page, 1);
      assert.equal(await cards(page).getByRole("heading").textContent(), "Without a picture");
      assert.equal(await figure(cards(page), "image tokens"), "0");
      await accessible(page);
    });
  } finally {
    await blind.end();
  }
  const range = await serve([join(models, "compressed-mqt")]);
  try {
    await visit(browser, range, {}, async (page) => {
      await upload(page, "cat.png");
      await page.locator("#question").fill(QUESTION);
      const slider = page.getByRole("slider", { name: "Tokens of the picture" });
      await slider.focus();
      await page.keyboard.press("Home");
      await page.keyboard.press("ArrowRight");
      assert.equal(await slider.getAttribute("aria-valuetext"), "2 visual tokens");
      await ask(page);
      await answered(page, 1);
      assert.equal(await figure(cards(page), "image tokens"), "2");
    });
  } finally {
    await range.end();
  }
  const adaptive = await serve([join(models, "compressed-plain"), "--compressor", "prumerge"]);
  try {
    await visit(browser, adaptive, {}, async (page) => {
      await upload(page, "cat.png");
      await page.locator("#question").fill(QUESTION);
      await page.getByRole("radio", { name: "As the picture needs" }).check();
      await ask(page);
      await answered(page, 1);
      const made = await figure(cards(page), "image tokens");
      assert.equal(await cards(page).getByRole("heading").textContent(), `${made} visual tokens, adaptive`);
    });
  } finally {
    await adaptive.end();
  }
});

test("the keyboard is enough, and shows where it is", async () => {
  await visit(browser, server, {}, async (page) => {
    const focused = () =>
      page.evaluate(() => {
        const element = document.activeElement;
        const shown = element.id === "file" ? element.nextElementSibling : element;
        const { outlineStyle, outlineWidth } = getComputedStyle(shown);
        const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
        return { name: (name || element.querySelector("img")?.alt || element.id).trim(), visible: outlineStyle !== "none" && outlineWidth !== "0px" };
      });
    const until = async (name) => {
      const path = [];
      for (let presses = 0; presses < 40; presses += 1) {
        await page.keyboard.press("Tab");
        const now = await focused();
        assert.ok(now.visible, `the focus on ${now.name} is not to be seen`);
        path.push(now.name);
        if (name.test(now.name)) {
          return path;
        }
      }
      assert.fail(`${name} is not among ${path.join(" | ")}`);
    };
    await page.getByRole("button", { name: /^Example/ }).first().waitFor();
    const path = await until(/^Example scene-1/);
    assert.deepEqual(path.slice(0, 3), ["Ask", "The law", "API"], "from the top");
    assert.ok(path.includes("Choose a picture"), String(path));
    await page.keyboard.press("Enter");
    await page.locator(".stage img").waitFor();
    await until(/^Show where each/);
    await page.keyboard.press("Space");
    await page.getByRole("radio", { name: "All tokens" }).waitFor();
    await until(/^All tokens/);
    await page.keyboard.press("ArrowRight");
    assert.equal((await focused()).name, "Token 1");
    await page.keyboard.press("End");
    assert.equal((await focused()).name, "Token 16");
    assert.match(await page.locator(".tokens [role=status]").textContent(), /^Token 16 looks/);
    await until(/^Question/);
    await page.keyboard.press("Control+A");
    await page.keyboard.type(QUESTION);
    await until(/^A number/);
    await until(/^Tokens of the picture/);
    await page.keyboard.press("ArrowLeft");
    await until(/^Ask$/);
    await page.keyboard.press("Enter");
    await answered(page, 1);
    assert.equal(await cards(page).first().getByRole("heading").textContent(), "9 visual tokens");
    await until(/^Remove this answer/);
    await page.keyboard.press("Enter");
    assert.equal(await cards(page).count(), 0);
  });
});

test("a phone is wide enough", async () => {
  const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
  await visit(browser, server, phone, async (page) => {
    const fits = async () => {
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `the page is ${width} wide`);
    };
    await page.getByRole("button", { name: /^Example text-1/ }).tap();
    await page.locator(".stage img").waitFor();
    await page.getByRole("checkbox", { name: /^Show where/ }).check();
    await page.getByRole("radio", { name: "Token 2" }).tap();
    await page.getByRole("button", { name: /^Ask with/ }).tap();
    await answered(page, 6);
    await fits();
    await accessible(page);
    // WCAG 2.2: 24 pixels.
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("button, .button, select, input[type=number], textarea, nav a")]
        .map((element) => [element.textContent || element.id, element.getBoundingClientRect()])
        .filter(([, { width, height }]) => width > 0 && (width < 24 || height < 24))
        .map(([name]) => name),
    );
    assert.deepEqual(small, []);
    await photograph(page, "phone");
    await page.getByRole("link", { name: "The law" }).tap();
    await page.locator(".ranked").waitFor();
    await fits();
    await photograph(page, "phone-law");
  });
});

test("dark and light, by the system and by choice; still for those who want it still", async () => {
  const ground = (page) =>
    page.evaluate(() => {
      const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
      return (red + green + blue) / 3;
    });
  await visit(browser, server, { colorScheme: "dark", reducedMotion: "reduce" }, async (page) => {
    assert.ok((await ground(page)) < 60, "dark, as the system");
    await page.getByLabel("Theme").selectOption("light");
    assert.ok((await ground(page)) > 200, "light, by choice");
    await page.reload();
    await page.getByLabel("Theme").waitFor();
    assert.ok((await ground(page)) > 200, "and it stays so");
    await page.getByLabel("Theme").selectOption("system");
    assert.ok((await ground(page)) < 60);
    await accessible(page);
    const still = await page.evaluate(() => {
      const text = document.body.appendChild(document.createElement("p"));
      text.className = "card";
      text.innerHTML = '<span class="text running">x</span>';
      return getComputedStyle(text.firstChild, "::after").animationName;
    });
    assert.equal(still, "none");
  });
});
