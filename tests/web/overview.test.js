/* The overview: queues and figures live, narrowing, sorting, a new queue, a broker that goes away. */
import assert from "node:assert/strict";
import test from "node:test";

import { call, cell, counts, create, describe, lease, live, openPage, publish, row, screenshot, shows, tile, until, url, wire } from "./page.js";

test("a broker without queues says what to do", async (t) => {
    const page = await openPage(t);
    await shows(page.locator(".empty .lead"), "No queues yet.");
    await shows(page.locator(".empty pre"), new RegExp(`curl -X PUT ${url}/v1/queues/hello`));
    await screenshot(page, "overview-empty");
});

test("the root leads to the page", async (t) => {
    const page = await openPage(t);
    await page.goto(`${url}/`);
    assert.equal(new URL(page.url()).pathname, "/ui/");
    await live(page);
    await shows(page.getByRole("heading", { level: 1 }), "Overview");
    assert.equal(await page.title(), "Overview – brokerd");
});

test("figures change as messages come and go", async (t) => {
    const page = await openPage(t);
    await create("live.a");
    await row(page, "live.a").waitFor();
    await shows(cell(page, "live.a", "Ready"), "0");
    await publish("live.a", ...Array.from({ length: 12 }, (_, i) => `message ${i}`));
    await shows(cell(page, "live.a", "Ready"), "12");
    await until(async () => assert.notEqual(await cell(page, "live.a", "In /s").textContent(), "0"), "a rate of what came in");
    await shows(tile(page, "Publishing"), /^[\d.,]+ \/s$/);
    const got = await lease("live.a", 5);
    assert.equal(got.length, 5);
    await shows(cell(page, "live.a", "Leased"), "5");
    await shows(cell(page, "live.a", "Ready"), "7");
    await call("POST", "/v1/ack", { receipts: got.map((m) => m.receipt) });
    await shows(cell(page, "live.a", "Leased"), "0");
    await call("DELETE", "/v1/queues/live.a");
    await counts(row(page, "live.a"), 0);
});

test("tiles say how the broker does", async (t) => {
    await create("tiles");
    await publish("tiles", "synced");
    const page = await openPage(t);
    await shows(tile(page, "Sync to disk, p99"), /^[\d.,]+ (µs|ms|s)$/);
    await shows(tile(page, "Memory"), /^[\d.,]+ [KMG]iB$/);
    await shows(tile(page, "Disk"), /^[\d.,]+ ([KMG]i)?B$/);
    await shows(tile(page, "Log position"), /^[\d,]+$/);
    await shows(tile(page, "Connections"), /^[1-9]\d*$/); /* the page's own */
    await page.locator(".tile-spark path.spark-line[d^=M]").first().waitFor({ state: "attached" });
});

test("a prefix narrows, a heading sorts", async (t) => {
    for (const [name, n] of [["sort.b", 3], ["sort.a", 1], ["sort.c", 2], ["other", 9]]) {
        await create(name);
        await publish(name, ...Array(n).fill("x"));
    }
    const page = await openPage(t);
    const names = () => page.locator("tbody th a").allTextContents();
    await page.getByLabel("Name begins with").fill("sort.");
    await until(async () => assert.deepEqual(await names(), ["sort.a", "sort.b", "sort.c"]));
    await shows(page.locator(".summary"), "3 queues");
    const ready = page.getByRole("columnheader", { name: "Ready" });
    await ready.getByRole("button").click();
    await until(async () => assert.deepEqual(await names(), ["sort.b", "sort.c", "sort.a"]));
    assert.equal(await ready.getAttribute("aria-sort"), "descending");
    await ready.getByRole("button").click();
    await until(async () => assert.deepEqual(await names(), ["sort.a", "sort.c", "sort.b"]));
    assert.equal(await ready.getAttribute("aria-sort"), "ascending");
    /* What comes later takes its place. */
    await create("sort.d");
    await publish("sort.d", ...Array(7).fill("x"));
    await until(async () => assert.deepEqual(await names(), ["sort.a", "sort.c", "sort.b", "sort.d"]));
    await page.getByLabel("Name begins with").fill("nothing");
    await shows(page.locator(".empty"), "No queue's name begins with “nothing”.");
});

test("a queue is created; what the broker refuses is said in its words", async (t) => {
    const page = await openPage(t);
    await page.getByRole("button", { name: "New queue" }).click();
    const dialog = page.getByRole("dialog", { name: "New queue" });
    const button = dialog.getByRole("button", { name: "Create" });
    assert.ok(await button.isDisabled(), "without a name there is nothing to create");
    await dialog.getByLabel("Name", { exact: true }).fill("no such/name");
    await button.click();
    const said = await call("PUT", "/v1/queues/no%20such%2Fname", {}).catch((e) => JSON.parse(e.message.slice(e.message.indexOf("{"))));
    assert.equal(said.status, 400);
    await shows(dialog.locator(".outcome"), said.detail);
    await dialog.getByLabel("Name", { exact: true }).fill("made-here");
    await dialog.getByText("Settings (all can be altered later)").click();
    await dialog.getByLabel("Most attempts").fill("lots");
    await button.click();
    await until(async () => assert.match(await dialog.locator(".outcome").textContent(), /max_attempts/));
    assert.equal(await dialog.getByLabel("Most attempts").getAttribute("aria-invalid"), "true");
    await dialog.getByLabel("Most attempts").fill("7");
    await dialog.getByLabel("Lease").fill("2min");
    await button.click();
    await shows(page.getByRole("heading", { level: 1 }), "made-here");
    assert.equal(await dialog.count(), 0);
    const made = await describe("made-here");
    assert.equal(made.max_attempts, 7);
    assert.equal(made.lease_ms, 120000);
});

test("a broker that goes away is seen, and one that comes back", async (t) => {
    const cable = await wire(t);
    await create("cable");
    const page = await openPage(t, "#/", { base: cable.url });
    await row(page, "cable").waitFor();
    cable.cut();
    await page.locator("#live[data-state=reconnecting]").waitFor();
    await shows(page.locator("#live-text"), "reconnecting");
    await publish("cable", "while it was away");
    await call("DELETE", "/v1/queues/other").catch(() => {});
    cable.mend();
    await live(page);
    await shows(cell(page, "cable", "Ready"), "1");
    await counts(row(page, "other"), 0);
});
