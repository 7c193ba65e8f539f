/* Without a mouse, and for those who hear the page. */
import assert from "node:assert/strict";
import test from "node:test";

import { create, describe, openPage, publish, row, shows, tile, until } from "./page.js";

const focused = (page) => page.evaluate(() => (document.activeElement.getAttribute("aria-label") || document.activeElement.textContent || document.activeElement.id).trim());

/* Tab until the element with this name has the focus. */
async function tabTo(page, name, most = 60) {
    for (let i = 0; i < most; i++) {
        await page.keyboard.press("Tab");
        if ((await focused(page)) === name) return;
    }
    assert.fail(`no way by Tab to ${name}; at last the focus was on ${await focused(page)}`);
}

test("from nothing to a message in a new queue, by keys alone", async (t) => {
    const page = await openPage(t);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content", "the skip link comes first");
    const box = await page.locator("#skip").boundingBox();
    assert.ok(box.y >= 0, "and it is seen when it has the focus");
    await page.keyboard.press("Enter");
    assert.ok(await page.evaluate(() => document.activeElement.id === "main"));
    assert.equal(new URL(page.url()).hash, "#/", "the skip link is no address of a view");

    await tabTo(page, "New queue");
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "New queue" });
    await dialog.waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal(await focused(page), "New queue", "the focus is back where it was");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.type("by-keys");
    await page.keyboard.press("Enter");
    await shows(page.getByRole("heading", { level: 1 }), "by-keys");
    await until(async () => assert.equal(await focused(page), "by-keys"), "the focus on the new page's heading");

    await tabTo(page, "Publish");
    await page.keyboard.press("Enter");
    await page.getByLabel("Body").waitFor();
    await page.getByLabel("Body").focus();
    await page.keyboard.type("typed");
    await page.keyboard.press("Control+Enter");
    await shows(page.locator(".outcome"), "Stored as seq 1.");
    assert.equal((await describe("by-keys")).messages, 1);

    await page.getByRole("link", { name: "Messages" }).focus();
    await page.keyboard.press("Enter");
    const summary = page.locator(".messages summary").first();
    await summary.waitFor();
    await summary.focus();
    await page.keyboard.press("Enter");
    await shows(page.locator("pre.body"), "typed");
});

test("the focus stays inside a dialog", async (t) => {
    await create("inside");
    await publish("inside", "x");
    const page = await openPage(t, "#/queues/inside");
    await shows(tile(page, "Ready"), "1");
    await page.getByRole("button", { name: "Purge…" }).focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Purge inside?" });
    await dialog.waitFor();
    assert.equal(await focused(page), "Cancel", "what cannot be taken back is not under the first Enter");
    for (let i = 0; i < 8; i++) {
        await page.keyboard.press("Tab");
        assert.ok(await page.evaluate(() => document.activeElement === document.body || Boolean(document.activeElement.closest("dialog"))));
    }
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal((await describe("inside")).messages, 1);
});

test("a sort heading works by keys and is told", async (t) => {
    await create("told");
    const page = await openPage(t);
    await row(page, "told").waitFor();
    await tabTo(page, "Bytes");
    await page.keyboard.press("Enter");
    assert.equal(await page.getByRole("columnheader", { name: "Bytes" }).getAttribute("aria-sort"), "descending");
    await page.keyboard.press("Space");
    assert.equal(await page.getByRole("columnheader", { name: "Bytes" }).getAttribute("aria-sort"), "ascending");
    assert.equal(await focused(page), "Bytes");
});

test("everything that can be used has a name, and is seen when focused", async (t) => {
    await create("named", { max_attempts: 1 });
    await publish("named", "x");
    const page = await openPage(t, "#/queues/named");
    for (const tab of ["", "/publish", "/tail", "/groups", "/dead", "/scheduled", "/settings"]) {
        await page.evaluate((to) => (location.hash = `#/queues/named${to}`), tab);
        await page.locator(`.tabs a[aria-current=page][href="#/queues/named${tab}"]`).waitFor();
        if (tab === "/settings") await page.getByRole("button", { name: "Save" }).waitFor();
        const bare = await page.evaluate(() => {
            const out = [];
            for (const e of document.querySelectorAll("a, button, input, select, textarea, summary")) {
                const name = e.getAttribute("aria-label") || (e.labels && e.labels[0] && e.labels[0].textContent) || (e.matches("input") ? "" : e.textContent);
                if (!name || !name.trim()) out.push(e.outerHTML);
            }
            const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
            const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
            return [...out, ...twice.map((id) => `two elements have the id ${id}`)];
        });
        assert.deepEqual(bare, [], tab);
    }
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid");
});
