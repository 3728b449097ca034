// A browser without a network of its own, and pages that are watched: what they ask for, what they complain about.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Runs `work` with a new page at the server's `/`, and then asserts that it kept to its origin and had nothing to complain of. */
export async function visit(browser, server, options, work) {
  const { refusals = 0, path = "/", ...context } = options;
  const own = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light", ...context });
  const page = await own.newPage();
  const complaints = [];
  const refused = [];
  const strangers = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      // The browser's own note of a status from 400 on: expected where a test provokes it.
      (message.text().startsWith("Failed to load resource") ? refused : complaints).push(message.text());
    }
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${server.origin}/`) && !/^(data|blob):/.test(url)) {
      strangers.push(url);
    }
  });
  page.setDefaultTimeout(20_000);
  try {
    await page.goto(server.origin + path);
    await work(page, own);
    assert.deepEqual(complaints, []);
    assert.deepEqual(strangers, []);
    if (refusals === 0) {
      assert.deepEqual(refused, []);
    } else {
      assert.ok(refused.length >= refusals, `${refused.length} refusals were seen`);
    }
  } finally {
    await own.close();
  }
}

/** What axe finds against WCAG 2.2 AA and its own good practice. */
export async function accessible(page) {
  if (!(await page.evaluate("typeof axe === 'object'"))) {
    await page.evaluate(axe);
  }
  const found = await page.evaluate("axe.run(document)");
  const told = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join("\n  ")}`);
  assert.deepEqual(told, []);
  assert.ok(found.passes.length > 15, "axe looked at the page");
}

/** A picture for people to look at, where somebody wants them. */
export async function photograph(page, name, fullPage = true) {
  if (process.env.SCREENSHOTS) {
    await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage });
  }
}
