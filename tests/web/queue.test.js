/* A queue's page: everything that can be done there. */
import assert from "node:assert/strict";
import test from "node:test";

import { call, cell, counts, create, describe, lease, openPage, publish, row, shows, tile, toast, until } from "./page.js";

const tab = (page, name) => page.getByRole("navigation", { name: "About this queue" }).getByRole("link", { name }).click();
const item = (page, seq) => page.locator(`.messages li[data-seq="${seq}"]`);

test("what is published in the page is seen in it", async (t) => {
    await create("pub");
    const page = await openPage(t, "#/queues/pub");
    await shows(page.locator(".messages .lead"), "No messages.");
    await tab(page, "Publish");
    const json = '{"n":1,"html":"<b>bold</b> & <img src=x>","big":9007199254740993}';
    await page.getByLabel("Body").fill(json);
    await page.getByLabel("Content type").selectOption("application/json");
    await page.getByLabel("Key", { exact: true }).fill("Kunde 7 é");
    await page.getByLabel("Priority").selectOption("4");
    await page.getByRole("button", { name: "Add a header" }).click();
    await page.getByLabel("Header name").fill("tenant");
    await page.getByLabel("Header value").fill("acme: grün");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await shows(page.locator(".outcome"), "Stored as seq 1.");
    await shows(tile(page, "Ready"), "1");

    await page.getByLabel("Delay").fill("soon");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await until(async () => assert.match(await page.locator(".outcome").textContent(), /delay_ms/), "the broker's sentence");
    await page.getByLabel("Delay").fill("1h");
    await page.getByLabel("Message id").fill("once");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await shows(page.locator(".outcome"), "Stored as seq 2.");
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await shows(page.locator(".outcome"), "This id was published before, as seq 2.");
    await shows(tile(page, "Scheduled"), "1");

    await tab(page, "Messages");
    await item(page, 1).locator("summary").click();
    const facts = item(page, 1).locator(".pairs");
    await shows(facts.first(), /Kunde 7 é.*Priority4/);
    await shows(facts.nth(1), /content-typeapplication\/json.*tenantacme: grün|tenantacme: grün.*content-type/);
    const body = item(page, 1).locator("pre.body");
    await shows(body, /^\{\n  "n": 1,\n  "html": "<b>bold<\/b> & <img src=x>",\n  "big": 9007199254740993\n\}$/);
    await item(page, 1).getByRole("button", { name: "Text" }).click();
    await shows(body, json);
    await item(page, 1).getByRole("button", { name: "Hex" }).click();
    await shows(body, /^000000 {2}7b 22 6e 22 3a 31 2c .* {2}\{"n":1,"html":"</);
    assert.equal(await page.locator(".messages b, .messages img").count(), 0, "a body became markup");

    await page.getByLabel("Which").selectOption("scheduled");
    await page.getByRole("button", { name: "Look", exact: true }).click();
    await counts(page.locator(".messages li[data-seq]"), 1);
    await page.getByLabel("Which").selectOption("any");
    await page.getByLabel("Header", { exact: true }).fill("tenant:other");
    await page.getByRole("button", { name: "Look", exact: true }).click();
    await shows(page.locator(".messages"), "No message matches.");
    await page.getByLabel("Header", { exact: true }).fill("tenant:acme: grün"); // the form kept it for the second one
    await page.getByRole("button", { name: "Look", exact: true }).click();
    await counts(page.locator(".messages li[data-seq]"), 2);
});

test("binary and large bodies, and page after page", async (t) => {
    await create("bodies");
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await publish("bodies", { body_base64: bytes.toString("base64"), key_base64: "/v8=" }, "x".repeat(100000), ...Array(25).fill("more"));
    const page = await openPage(t, "#/queues/bodies");
    await counts(page.locator(".messages li[data-seq]"), 20);
    await item(page, 1).locator("summary").click();
    await shows(item(page, 1).locator("pre.body"), /0000f0 {2}f0 f1 .* fe ff {2}\.{16}$/);
    await shows(item(page, 1).locator(".pairs").first(), /\/v8= \(base64\)/);
    await item(page, 2).locator("summary").click();
    const body = item(page, 2).locator("pre.body");
    assert.equal((await body.textContent()).length, 65536);
    await item(page, 2).getByRole("button", { name: "Show all" }).click();
    await until(async () => assert.equal((await body.textContent()).length, 100000));
    await page.getByRole("button", { name: "Show more" }).click();
    await counts(page.locator(".messages li[data-seq]"), 27);
    await shows(page.locator(".outcome"), "27 messages shown.");

    const deep = "[".repeat(100000) + "]".repeat(100000);
    const [seq] = await publish("bodies", deep);
    await page.getByLabel("From seq").fill(String(seq));
    await page.getByRole("button", { name: "Look", exact: true }).click();
    await item(page, seq).locator("summary").click();
    await shows(item(page, seq).locator("pre.body"), deep.slice(0, 65536)); /* not a line a level */
    await page.getByLabel("From seq").fill("");
    await page.getByRole("button", { name: "Look", exact: true }).click();

    await item(page, 3).locator("summary").click();
    await item(page, 3).getByRole("button", { name: "Delete…" }).click();
    await page.getByRole("dialog", { name: "Delete message 3?" }).getByRole("button", { name: "Delete" }).click();
    await counts(item(page, 3), 0);
    assert.equal((await describe("bodies")).messages, 27);
});

test("settings are altered; a bad value gets the broker's sentence", async (t) => {
    await create("set");
    const page = await openPage(t, "#/queues/set/settings");
    const attempts = page.getByLabel("Most attempts");
    await attempts.fill("2000000");
    await page.getByRole("button", { name: "Save" }).click();
    const said = await call("PATCH", "/v1/queues/set", { max_attempts: 2000000 }).catch((e) => JSON.parse(e.message.slice(e.message.indexOf("{"))));
    assert.match(said.detail, /max_attempts.*2000000/);
    await shows(page.locator(".actions .outcome"), said.detail);
    assert.equal(await attempts.getAttribute("aria-invalid"), "true");
    assert.ok(await attempts.evaluate((e) => e === document.activeElement), "the focus is where the mistake is");
    await attempts.fill("3");
    await page.getByLabel("Wait before a retry").selectOption("exponential");
    await page.getByLabel("Wait: at first").fill("1.5s");
    await page.getByLabel("Expired messages go there too").check();
    await page.getByRole("button", { name: "Save" }).click();
    await shows(page.locator(".actions .outcome"), /^Saved: .*max_attempts/);
    const now = await describe("set");
    assert.deepEqual([now.max_attempts, now.backoff, now.backoff_ms, now.dead_letter_expired], [3, "exponential", 1500, true]);
    assert.equal(await page.getByLabel("Wait: at first").inputValue(), "1500ms");
    await page.getByRole("button", { name: "Save" }).click();
    await shows(page.locator(".actions .outcome"), "Nothing was changed.");

    await page.getByLabel("Topic pattern").fill("orders..x");
    await page.getByRole("button", { name: "Bind" }).click();
    await until(async () => assert.match(await page.locator(".row-form .outcome").textContent(), /orders\.\.x/));
    await page.getByLabel("Topic pattern").fill("orders.*.>");
    await page.getByRole("button", { name: "Bind" }).click();
    await page.locator(".chips code", { hasText: "orders.*.>" }).waitFor();
    assert.deepEqual((await call("GET", "/v1/queues/set")).bindings, ["orders.*.>"]);
    await page.getByRole("button", { name: "Unbind orders.*.>" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Unbind" }).click();
    await counts(page.locator(".chips code"), 0);
    assert.deepEqual((await call("GET", "/v1/queues/set")).bindings, []);
});

test("purge says how many and does it; pause and resume", async (t) => {
    await create("purge");
    await publish("purge", "a", "b", "c");
    const page = await openPage(t, "#/queues/purge");
    await page.getByRole("button", { name: "Purge…" }).click();
    const dialog = page.getByRole("dialog", { name: "Purge purge?" });
    await shows(dialog.locator(".dialog-body"), /^3 messages will be gone/);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal((await describe("purge")).messages, 3);
    await page.getByRole("button", { name: "Purge…" }).click();
    await dialog.getByRole("button", { name: "Purge 3" }).click();
    await toast(page, "3 messages purged.");
    await shows(tile(page, "Ready"), "0");
    assert.equal((await describe("purge")).messages, 0);

    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Resume" }).waitFor();
    await page.locator(".toolbar .badge").waitFor();
    assert.equal((await describe("purge")).paused, true);
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    assert.equal((await describe("purge")).paused, false);
});

test("dead letters are seen with their reasons and sent back", async (t) => {
    await create("mortal", { max_attempts: 1 });
    await publish("mortal", "one", "two", "three");
    const got = await lease("mortal", 3);
    await call("POST", "/v1/reject", { receipts: [got[0].receipt] });
    await call("POST", "/v1/nack", { receipts: [got[1].receipt, got[2].receipt] });
    const page = await openPage(t, "#/queues/mortal/dead");
    await shows(tile(page, "Dead"), "3");
    await page.getByRole("button", { name: "Look again" }).click();
    await counts(page.locator(".messages li[data-seq]"), 3);
    await shows(item(page, 1).locator(".marks"), /rejected/);
    await shows(item(page, 2).locator(".marks"), /out of attempts/);

    await item(page, 1).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Redrive 1 selected…" }).click();
    const one = page.getByRole("dialog", { name: "Redrive the selected ones?" });
    await shows(one.locator("p").first(), /^1 dead letter will/);
    assert.equal((await describe("mortal")).messages, 0, "the dry run moved something");
    await one.getByRole("button", { name: "Redrive 1" }).click();
    await toast(page, "1 message went back.");
    await counts(page.locator(".messages li[data-seq]"), 2);
    await shows(tile(page, "Ready"), "1");

    await page.getByRole("button", { name: "Redrive all…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Redrive 2" }).click();
    await toast(page, "2 messages went back.");
    await shows(page.locator(".messages .lead"), "No dead letters.");
    await shows(tile(page, "Ready"), "3");
    await shows(tile(page, "Dead"), "0");
    await page.getByRole("button", { name: "Redrive all…" }).click();
    await shows(page.locator(".outcome"), "There is nothing to redrive.");
});

test("groups are made, moved and removed", async (t) => {
    await create("grp");
    await publish("grp", "a", "b", "c", "d");
    const page = await openPage(t, "#/queues/grp/groups");
    const figure = (group, column) => page.getByRole("row").filter({ hasText: new RegExp(`^${group}`) }).locator(`td[data-label="${column}"]`);
    await shows(figure("default", "Lag"), "4");
    await page.getByRole("button", { name: "New group" }).click();
    const dialog = page.getByRole("dialog", { name: "New group" });
    await dialog.getByLabel("Name", { exact: true }).fill("mail");
    await dialog.getByLabel("Start").selectOption("seq");
    await dialog.getByLabel("Seq", { exact: true }).fill("3");
    await dialog.getByLabel("One consumer at a time").check();
    await dialog.getByRole("button", { name: "Create" }).click();
    await shows(figure("mail", "Lag"), "2");
    await shows(figure("mail", "Next seq"), "3");
    await page.getByRole("button", { name: "Seek mail" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Seek" }).click();
    await shows(figure("mail", "Lag"), "4");
    await publish("grp", "e"); /* live, without anybody's asking */
    await shows(figure("mail", "Lag"), "5");
    await page.getByRole("button", { name: "Seek mail" }).click();
    await page.getByRole("dialog").getByLabel("Start").selectOption("seq");
    await page.getByRole("dialog").getByRole("button", { name: "Seek" }).click();
    await until(async () => assert.match(await page.getByRole("dialog").locator(".outcome").textContent(), /value/), "the broker's sentence");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Delete mail" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete group" }).click();
    await counts(page.locator("tbody tr"), 1);
    assert.deepEqual((await call("GET", "/v1/queues/grp")).groups.map((g) => g.name), ["default"]);
});

test("what is scheduled gets another time, or is cancelled", async (t) => {
    await create("later");
    await publish("later", { body: "a", delay_ms: 3600000 }, { body: "b", delay_ms: 7200000 });
    const page = await openPage(t, "#/queues/later/scheduled");
    await counts(page.locator(".messages li[data-seq]"), 2);
    await shows(item(page, 1).locator(".marks"), /due in (59 min|1 h)/);
    await item(page, 1).locator("summary").click();
    await item(page, 1).getByRole("button", { name: "Give it another time…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Reschedule" }).click();
    await shows(tile(page, "Ready"), "1");
    await counts(page.locator(".messages li[data-seq]"), 1);
    await item(page, 2).locator("summary").click();
    await item(page, 2).getByRole("button", { name: "Cancel it…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await shows(tile(page, "Scheduled"), "0");
    assert.equal((await describe("later")).messages, 1);
});

test("a queue is deleted only when its name was typed", async (t) => {
    await create("doomed");
    const page = await openPage(t, "#/queues/doomed");
    await page.getByRole("button", { name: "Delete…" }).click();
    const dialog = page.getByRole("dialog", { name: "Delete doomed?" });
    const button = dialog.getByRole("button", { name: "Delete queue" });
    assert.ok(await button.isDisabled());
    await dialog.getByLabel("Type doomed to confirm").fill("doome");
    assert.ok(await button.isDisabled());
    await page.keyboard.press("Enter");
    await describe("doomed");
    await dialog.getByLabel("Type doomed to confirm").fill("doomed");
    await button.click();
    await shows(page.getByRole("heading", { level: 1 }), "Overview");
    await counts(row(page, "doomed"), 0);
    await page.goto(`${new URL(page.url()).origin}/ui/#/queues/doomed`);
    await page.locator(".notice", { hasText: "There is no queue doomed" }).waitFor();
});

test("a click on a queue leads to its page and back", async (t) => {
    await create("walk");
    await publish("walk", "x");
    const page = await openPage(t);
    await shows(cell(page, "walk", "Ready"), "1");
    await page.getByRole("link", { name: "walk" }).click();
    await shows(page.getByRole("heading", { level: 1 }), "walk");
    await shows(tile(page, "Ready"), "1");
    await page.goBack();
    await row(page, "walk").waitFor();
    await page.goForward();
    await shows(page.getByRole("heading", { level: 1 }), "walk");
});
