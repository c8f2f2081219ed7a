/**
 * Uses a page as a person does, in a real Chromium without a window.
 *
 *     node tests/page_in_chromium.mjs CHROMIUM FILE.html < [["type", "print(3)"], ["press", ...]]
 *
 * One action after the other, see ACTIONS; out comes what each gave, what the page wanted to load,
 * and what went wrong in it, as JSON. Chromium is spoken to in its own protocol, through pipes.
 */

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const SECONDS = 60; // Within which whatever is waited for must come.
const profile = mkdtempSync(join(tmpdir(), "chromium-"));
const [, , chromium, file] = process.argv;
const options = [
  ...["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"],
  ...["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"],
  ...["--hide-scrollbars", `--user-data-dir=${profile}`, "about:blank"],
];
const browser = spawn(chromium, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [, , , toBrowser, fromBrowser] = browser.stdio;

const [waiting, loaded, errors] = [new Map(), [], []];
let [number, unread, session] = [0, "", undefined];

fromBrowser.setEncoding("utf-8").on("data", (data) => {
  const messages = (unread + data).split("\0");
  unread = messages.pop();
  messages.map(JSON.parse).forEach(hear);
});

function hear({ id, result, error, method, params }) {
  if (id) {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  } else if (method === "Network.requestWillBeSent") {
    loaded.push(params.request.url);
  } else if (method === "Runtime.exceptionThrown") {
    errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  } else if (method === "Log.entryAdded") {
    errors.push(params.entry.text);
  }
}

function send(method, params = {}) {
  number += 1;
  toBrowser.write(`${JSON.stringify({ id: number, method, params, sessionId: session })}\0`);
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

async function evaluate(expression) {
  const { result, exceptionDetails } = await send("Runtime.evaluate", {
    expression,
    returnByValue: true,
  });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception.description}`);
  return result.value;
}

async function press(key, { text, modifiers = 0 } = {}) {
  const code = { Enter: 13, Tab: 9, ArrowLeft: 37, ArrowRight: 39 }[key] ?? 0;
  const event = { key, code: key, windowsVirtualKeyCode: code, modifiers };
  await send("Input.dispatchKeyEvent", { type: "keyDown", text, ...event });
  await send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
}

async function placeOf(selector) {
  const element = `document.querySelector(${JSON.stringify(selector)})`;
  await evaluate(`${element}.scrollIntoView({ block: "center" })`);
  const box = await evaluate(`${element}.getBoundingClientRect().toJSON()`);
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

const ACTIONS = {
  /** Puts a text in the place of what is typed, key by key. */
  async type(text) {
    await evaluate(`document.getElementById("program").select()`);
    await evaluate(`document.getElementById("program").focus()`);
    await send("Input.insertText", { text: "" });
    for (const character of text) {
      if (character === "\n") await press("Enter", { text: "\r" });
      else await press(character, { text: character });
    }
  },
  press: (key, modifiers) => press(key, { modifiers, text: key === "Enter" ? "\r" : undefined }),
  async point(selector) {
    await send("Input.dispatchMouseEvent", { type: "mouseMoved", ...(await placeOf(selector)) });
  },
  async click(selector) {
    const event = { ...(await placeOf(selector)), button: "left", clickCount: 1 };
    await send("Input.dispatchMouseEvent", { type: "mousePressed", ...event });
    await send("Input.dispatchMouseEvent", { type: "mouseReleased", ...event });
  },
  async tap(selector) {
    const touchPoints = [await placeOf(selector)];
    await send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints });
    await send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  },
  evaluate,
  /** Waits until an expression is true. */
  async wait(expression) {
    for (const start = Date.now(); !(await evaluate(expression)); ) {
      const isLate = Date.now() - start > SECONDS * 1000;
      if (isLate || errors.length) throw new Error(`it never came: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },
  /** A screen of so many pixels each way, dark or not, of a phone or not. */
  async screen({ width, height, scale = 1, dark = false, phone = false }) {
    const metrics = { width, height, deviceScaleFactor: scale, mobile: phone };
    await send("Emulation.setDeviceMetricsOverride", metrics);
    await send("Emulation.setTouchEmulationEnabled", { enabled: phone });
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await send("Emulation.setEmulatedMedia", { features });
  },
  async picture(path) {
    const { data } = await send("Page.captureScreenshot", { captureBeyondViewport: false });
    writeFileSync(path, Buffer.from(data, "base64"));
  },
};

async function use(actions) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  ({ sessionId: session } = await send("Target.attachToTarget", { targetId, flatten: true }));
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
  const url = pathToFileURL(file).href;
  await send("Page.navigate", { url });
  await ACTIONS.wait(`document.readyState === "complete" && location.href === "${url}"`);
  const gave = [];
  for (const [action, ...rest] of actions) gave.push((await ACTIONS[action](...rest)) ?? null);
  return { gave, loaded: loaded.filter((place) => place !== url), errors };
}

let failed = false;
try {
  console.log(JSON.stringify(await use(JSON.parse(readFileSync(0, "utf-8")))));
} catch (error) {
  console.error(error.stack, errors);
  failed = true;
}
browser.kill();
await new Promise((resolve) => browser.on("exit", resolve));
rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
process.exit(failed ? 1 : 0);
