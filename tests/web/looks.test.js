/* How it looks: a phone, dark and light, contrast. The screenshots are for people; what can be measured is measured. */
import assert from "node:assert/strict";
import test from "node:test";

import { call, cell, create, lease, openPage, publish, row, screenshot, shows, tile, until } from "./page.js";

const TABS = ["", "/publish", "/tail", "/groups", "/dead", "/scheduled", "/settings"];

/* A broker with something to look at. */
async function scene() {
    await create("orders.eu", { max_attempts: 3, backoff: "exponential", backoff_ms: 500 });
    await create("orders.us");
    await create("payments", { retention: "log" });
    await create("nightly-reports.monthly.aggregation-with-a-long-name");
    await call("PUT", "/v1/queues/orders.eu/bindings/orders.eu.%3E");
    await call("PUT", "/v1/queues/orders.eu/groups/mail", { filter: { topic: "orders.>" }, single_active: true });
    await publish("orders.eu", "rejected by its consumer", "so was this");
    await call("POST", "/v1/reject", { receipts: (await lease("orders.eu", 2)).map((m) => m.receipt) });
    await publish(
        "orders.eu",
        { body: JSON.stringify({ order: 8812, customer: { id: 7, name: "Ada <b>Lovelace</b>" }, total: 129.9 }), key: "customer-7", priority: 3, headers: { "content-type": "application/json", "trace-id": "4bf92f3577b34da6" } },
        { body: "a line of plain text that goes on for longer than a phone is wide, so that it has to be cut somewhere", topic: "orders.eu.created" },
        { body_base64: Buffer.from(Array.from({ length: 90 }, (_, i) => (i * 7) & 255)).toString("base64") },
        { body: "later", delay_ms: 3600000 },
    );
    await publish("orders.us", ...Array.from({ length: 40 }, (_, i) => `order ${i}`));
    await publish("payments", ...Array.from({ length: 9 }, (_, i) => `payment ${i}`));
    await call("POST", "/v1/queues/payments/pause");
}
let made;
const ready = () => (made ??= scene());

async function visit(page, hash) {
    await page.evaluate((to) => (location.hash = to), hash);
    if (!hash.includes("queues")) {
        await shows(cell(page, "orders.us", "Ready"), "40");
        await page.locator("tbody .spark-line[d^=M]").first().waitFor({ state: "attached" });
        return;
    }
    const tab = hash.replace(/^#\/queues\/[^/]+/, "");
    await page.locator(`.tabs a[aria-current=page][href="${hash}"]`).waitFor();
    await shows(tile(page, "Scheduled"), "1");
    if (tab === "/settings") await page.getByRole("button", { name: "Save" }).waitFor();
    if (tab === "/groups") await row(page, "mail").or(page.getByRole("rowheader", { name: "mail" })).first().waitFor();
    if (["", "/dead", "/scheduled"].includes(tab)) await page.locator(".messages li[data-seq]").first().waitFor();
    if (tab === "") {
        await page.locator(".messages summary").first().click();
        await page.locator("pre.body").first().waitFor();
    }
}

const sideways = (page) =>
    page.evaluate(() => {
        const width = document.documentElement.clientWidth;
        const wide = [...document.querySelectorAll("main *, header *, footer *, dialog *")].filter((e) => {
            const box = e.getBoundingClientRect();
            if (!box.width || box.right <= width + 1) return false;
            for (let p = e; p; p = p.parentElement) if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX) && p !== document.documentElement) return false;
            return true;
        });
        return { over: document.documentElement.scrollWidth - width, wide: wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 200)) };
    });

/* Texts whose contrast to what is behind them is less than WCAG 2's AA asks for (1.4.3): 4.5, large ones 3. */
const faint = (page) =>
    page.evaluate(() => {
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        canvas.canvas.width = canvas.canvas.height = 1;
        const rgba = (color) => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
            return [r, g, b, a / 255];
        };
        const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
        const behind = (e) => {
            if (!e) return [255, 255, 255, 1];
            const own = rgba(getComputedStyle(e).backgroundColor);
            return own[3] === 1 ? own : over(own, behind(e.parentElement));
        };
        const luminance = ([r, g, b]) => {
            const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
            return 0.2126 * x + 0.7152 * y + 0.0722 * z;
        };
        const out = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const e = walker.currentNode.parentElement;
            if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("button:disabled, option, .skip, noscript, svg")) continue;
            const style = getComputedStyle(e);
            const back = behind(e);
            const [a, b] = [luminance(over(rgba(style.color), back)), luminance(back)];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            const size = parseFloat(style.fontSize);
            const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
            if (ratio < (large ? 3 : 4.5)) out.push(`${ratio.toFixed(2)}: "${walker.currentNode.data.trim().slice(0, 40)}" in ${e.className || e.tagName}`);
        }
        return [...new Set(out)];
    });

for (const scheme of ["light", "dark"]) {
    test(`${scheme}, on a desk`, async (t) => {
        await ready();
        const page = await openPage(t, "#/", { colorScheme: scheme });
        await visit(page, "#/");
        assert.deepEqual(await faint(page), []);
        await screenshot(page, `overview-${scheme}`);
        for (const tab of TABS) {
            await visit(page, `#/queues/orders.eu${tab}`);
            assert.deepEqual(await faint(page), [], tab);
            await screenshot(page, `queue${tab.replace("/", "-")}-${scheme}`);
        }
        await page.getByRole("button", { name: "Delete…" }).first().click();
        await page.getByRole("dialog").waitFor();
        assert.deepEqual(await faint(page), []);
        await screenshot(page, `dialog-${scheme}`);
    });
}

for (const width of [360, 820]) {
    test(`${width} pixels wide: nothing to scroll sideways`, async (t) => {
        await ready();
        const phone = width < 500;
        const page = await openPage(t, "#/", { viewport: { width, height: 740 }, isMobile: phone, hasTouch: phone, deviceScaleFactor: 2 });
        await visit(page, "#/");
        assert.deepEqual(await sideways(page), { over: 0, wide: [] });
        if (phone) {
            const card = await row(page, "orders.us").evaluate((e) => getComputedStyle(e).display);
            assert.equal(card, "grid", "rows are cards");
            assert.equal(await page.getByLabel("Sort by").isVisible(), true);
            const ready = row(page, "orders.us").locator('td[data-label="Ready"]');
            assert.match(await ready.evaluate((e) => getComputedStyle(e, "::before").content), /Ready/);
            await page.getByLabel("Sort by").selectOption("ready");
            await until(async () => assert.equal(await page.locator("tbody th a").first().textContent(), "orders.us"));
            await page.getByLabel("Sort by").selectOption("name");
        }
        await screenshot(page, `overview-${width}`);
        for (const tab of TABS) {
            await visit(page, `#/queues/orders.eu${tab}`);
            assert.deepEqual(await sideways(page), { over: 0, wide: [] }, tab);
            await screenshot(page, `queue${tab.replace("/", "-")}-${width}`);
        }
        await page.evaluate(() => (location.hash = "#/"));
        await page.getByRole("button", { name: "New queue" }).click();
        await page.getByText("Settings (all can be altered later)").click();
        assert.deepEqual(await sideways(page), { over: 0, wide: [] });
        await screenshot(page, `dialog-${width}`);
    });
}

test("dark or light: as the system wishes, unless somebody chose; that is remembered", async (t) => {
    const page = await openPage(t, "#/", { colorScheme: "dark" });
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await page.emulateMedia({ colorScheme: "light" });
    const light = await ground();
    assert.notEqual(dark, light);
    const button = page.locator("#theme");
    await shows(button, "Theme: auto");
    await button.click();
    await shows(button, "Theme: dark");
    assert.equal(await ground(), dark);
    await page.reload();
    await shows(button, "Theme: dark");
    assert.equal(await ground(), dark);
    await button.click();
    await shows(button, "Theme: light");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.equal(await ground(), light);
    await button.click();
    await shows(button, "Theme: auto");
    assert.equal(await ground(), dark);
});

test("nothing moves for those who asked for that", async (t) => {
    const page = await openPage(t, "#/", { reducedMotion: "reduce" });
    const moving = await page.evaluate(() => {
        document.getElementById("live").dataset.state = "reconnecting";
        return getComputedStyle(document.querySelector(".dot")).animationName;
    });
    assert.equal(moving, "none");
});
