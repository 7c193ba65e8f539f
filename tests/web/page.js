/*
 * What the page's tests share: Debian's Chromium, the broker's address, and waiting for what must come. The broker is started
 * by tests/e2e/test_web_page.py, one for each test file; the environment says where it is.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { after, before } from "node:test";

export const SECONDS = 30; /* deadline of everything that must come */
const { BROKER_HTTP, PAGE_BUILD, CHROMIUM } = process.env;
assert.ok(BROKER_HTTP && PAGE_BUILD && CHROMIUM, "run by tests/e2e/test_web_page.py");
const { chromium } = createRequire(path.join(PAGE_BUILD, "package.json"))("playwright-core");

export const url = BROKER_HTTP; /* http://127.0.0.1:PORT */
export const screenshots = path.join(PAGE_BUILD, "..", "screenshots");

/* ---- the broker, without the page ------------------------------------------------------------------------------------- */

export async function call(method, where, body) {
    const json = body !== undefined && typeof body !== "string";
    const answer = await fetch(url + where, {
        method,
        headers: json ? { "Content-Type": "application/json" } : {},
        body: json ? JSON.stringify(body) : body,
    });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${where}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
}
export const create = (queue, settings = {}) => call("PUT", `/v1/queues/${queue}`, settings);
export const describe = async (queue) => (await call("GET", `/v1/queues/${queue}`)).queue;
/* Messages: bodies, or objects as in docs/HTTP.md. */
export async function publish(queue, ...messages) {
    const objects = messages.map((m) => (typeof m === "string" ? { body: m } : m));
    const { results } = await call("POST", `/v1/queues/${queue}/messages/batch`, objects);
    for (const r of results) assert.ok(r.seq, JSON.stringify(r));
    return results.map((r) => r.seq);
}
export const lease = async (queue, max) => (await call("POST", `/v1/queues/${queue}/lease?max=${max}&wait=5s`)).messages;

/* ---- waiting ------------------------------------------------------------------------------------------------------------ */

/* fn() again and again until it neither throws nor returns a promise that does; its value. */
export async function until(fn, what = "the condition") {
    const deadline = Date.now() + SECONDS * 1000;
    for (;;) {
        try {
            return await fn();
        } catch (e) {
            if (Date.now() > deadline) throw new Error(`${what} did not come true within ${SECONDS} s: ${e.message}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/* The locator's text is this, or matches. */
export function shows(locator, text) {
    return until(async () => {
        const got = ((await locator.textContent({ timeout: 1000 })) || "").trim();
        if (text instanceof RegExp) assert.match(got, text);
        else assert.equal(got, text);
    }, `${locator} with the text ${text}`);
}
export const counts = (locator, n) => until(async () => assert.equal(await locator.count(), n), `${n} of ${locator}`);

/* ---- the browser ---------------------------------------------------------------------------------------------------------- */

let browser;
before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});
after(() => browser && browser.close());

/*
 * A fresh browser window with the page in it; whatever the page's policy forbade, and whatever broke in its scripts, fails
 * the test when it is over. options: of playwright's newContext; base: another address than the broker's.
 */
export async function openPage(t, hash = "#/", { base = url, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(SECONDS * 1000);
    const page = await context.newPage();
    const bad = [];
    page.on("pageerror", (e) => bad.push(`script: ${e.stack}`));
    page.on("console", (m) => {
        /* A refused request is told on the console as well; what the page makes of it is the test's business. */
        if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) bad.push(`console: ${m.text()}`);
    });
    await page.addInitScript(() => {
        globalThis.violations = [];
        document.addEventListener("securitypolicyviolation", (e) => globalThis.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
    });
    t.after(async () => {
        const violations = page.isClosed() ? [] : await page.evaluate(() => globalThis.violations);
        await context.close();
        assert.deepEqual(violations, [], "the page does what its policy forbids");
        assert.deepEqual(bad, [], "errors in the page");
    });
    await page.goto(`${base}/ui/${hash}`);
    await live(page);
    return page;
}

/* A window for a page that is not the broker's: what goes wrong in it is expected to. */
export async function strangersPage(t, address) {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(address);
    return page;
}

export const live = (page) => page.locator("#live[data-state=live]").waitFor();
export const row = (page, queue) => page.getByRole("row").filter({ has: page.getByRole("link", { name: queue, exact: true }) });
export const cell = (page, queue, column) => row(page, queue).locator(`td[data-label="${column}"] .figure`);
export const tile = (page, label) => page.locator(".tile").filter({ has: page.locator("dt", { hasText: new RegExp(`^${label}$`) }) }).locator(".value");
export const toast = (page, text) => page.locator(".toast", { hasText: text }).first().waitFor();

export async function screenshot(page, name) {
    fs.mkdirSync(screenshots, { recursive: true });
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
}

/* ---- a wire that can be cut ------------------------------------------------------------------------------------------------ */

/* A TCP proxy in front of the broker: cut() breaks what is open and refuses more, mend() lets it through again. */
export async function wire(t) {
    const target = new URL(url);
    const open = new Set();
    let whole = true;
    const server = net.createServer((near) => {
        if (!whole) {
            near.destroy();
            return;
        }
        const far = net.connect(Number(target.port), target.hostname);
        for (const [a, b] of [[near, far], [far, near]]) {
            open.add(a);
            a.on("error", () => {});
            a.on("close", () => {
                open.delete(a);
                b.destroy();
            });
            a.pipe(b);
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
        for (const s of open) s.destroy();
        server.close();
    });
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        cut() {
            whole = false;
            for (const s of open) s.destroy();
        },
        mend() {
            whole = true;
        },
    };
}
