/* Streams in a real browser: the live tail, EventSource with Last-Event-ID over a broken wire, WebSocket. */
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";

import { call, counts, create, describe, openPage, publish, shows, strangersPage, until, url, wire } from "./page.js";

test("the live tail shows what comes, and takes nothing", async (t) => {
    await create("tail");
    await publish("tail", "before");
    const page = await openPage(t, "#/queues/tail/tail");
    await shows(page.locator(".outcome"), "Following: 0 messages so far.");
    await publish("tail", "first", '{"second":2}');
    const items = page.locator(".messages li[data-seq]");
    await counts(items, 2);
    assert.deepEqual(await items.evaluateAll((all) => all.map((li) => li.dataset.seq)), ["3", "2"]);
    await items.first().locator("summary").click();
    await shows(items.first().locator("pre.body"), '{\n  "second": 2\n}');
    await shows(page.locator(".outcome"), "Following: 2 messages so far.");
    await page.getByRole("button", { name: "Stop" }).click();
    await publish("tail", "unseen");
    await page.getByLabel("Follow").selectOption("beginning");
    await page.getByRole("button", { name: "Clear" }).click();
    await page.getByRole("button", { name: "Start" }).click();
    await counts(items, 4);
    const { messages } = await describe("tail");
    assert.equal(messages, 4);
    assert.equal((await call("GET", "/v1/queues/tail")).groups[0].ready, 4);
});

test("many at once: the newest two hundred stay", async (t) => {
    await create("flood");
    const page = await openPage(t, "#/queues/flood/tail");
    await shows(page.locator(".outcome"), /^Following/);
    await publish("flood", ...Array.from({ length: 500 }, (_, i) => `m${i}`));
    await shows(page.locator(".outcome"), "Following: 500 messages so far.");
    const items = page.locator(".messages li[data-seq]");
    await counts(items, 200);
    assert.equal(await items.first().getAttribute("data-seq"), "500");
});

test("EventSource goes on after a broken connection where it stopped", async (t) => {
    const cable = await wire(t);
    await create("resume");
    const page = await openPage(t, "#/", { base: cable.url });
    await page.evaluate(() => {
        globalThis.seen = [];
        globalThis.opened = 0;
        const source = new EventSource("/v1/queues/resume/events?from=beginning");
        source.addEventListener("open", () => globalThis.opened++);
        source.addEventListener("message", (e) => globalThis.seen.push(JSON.parse(e.data).body));
        source.addEventListener("reset", () => globalThis.seen.push("RESET"));
    });
    const seen = (...want) => until(async () => assert.deepEqual(await page.evaluate(() => globalThis.seen), want), `events ${want}`);
    await until(async () => assert.equal(await page.evaluate(() => globalThis.opened), 1));
    await publish("resume", "1", "2", "3");
    await seen("1", "2", "3");
    cable.cut();
    await publish("resume", "4", "5");
    cable.mend();
    await seen("1", "2", "3", "4", "5");
    assert.ok((await page.evaluate(() => globalThis.opened)) >= 2, "it was the same connection");
    await publish("resume", "6");
    await seen("1", "2", "3", "4", "5", "6");
});

test("WebSocket from the page's origin: publish, subscribe, ack", async (t) => {
    await create("socket");
    const page = await openPage(t);
    const got = await page.evaluate(async () => {
        const socket = new WebSocket(`ws://${location.host}/v1/ws`, ["brokerd.v1.json"]);
        const waiting = [];
        const come = [];
        socket.onmessage = (e) => {
            come.push(JSON.parse(e.data));
            while (waiting.length) waiting.pop()();
        };
        const next = async (wanted) => {
            for (;;) {
                const i = come.findIndex(wanted);
                if (i >= 0) return come.splice(i, 1)[0];
                await new Promise((resolve, reject) => {
                    waiting.push(resolve);
                    socket.onclose = (e) => reject(new Error(`closed: ${e.code} ${e.reason}`));
                });
            }
        };
        await new Promise((resolve, reject) => {
            socket.onopen = resolve;
            socket.onerror = () => reject(new Error("no connection"));
        });
        let id = 0;
        const ask = (op, fields) => {
            const mine = ++id;
            socket.send(JSON.stringify({ op, id: mine, ...fields }));
            return next((m) => m.id === mine);
        };
        const out = { protocol: socket.protocol };
        out.subscribed = await ask("subscribe", { sub: 1, queue: "socket", group: "default", credit: 10 });
        out.published = await ask("publish", { queue: "socket", message: { body: "grüße ✓", key: "k", headers: { a: "b" } } });
        out.message = await next((m) => m.op === "message");
        out.acked = await ask("ack", { receipts: [out.message.receipt] });
        socket.close(1000, "done");
        out.closed = await new Promise((resolve) => (socket.onclose = (e) => resolve({ code: e.code, clean: e.wasClean })));
        return out;
    });
    assert.equal(got.protocol, "brokerd.v1.json");
    assert.equal(got.subscribed.op, "ok", JSON.stringify(got.subscribed));
    assert.equal(got.published.op, "ok", JSON.stringify(got.published));
    assert.equal(got.message.body, "grüße ✓");
    assert.equal(got.message.key, "k");
    assert.deepEqual(got.message.headers, { a: "b" });
    assert.equal(got.acked.op, "ok", JSON.stringify(got.acked));
    assert.deepEqual(got.closed, { code: 1000, clean: true });
    await until(async () => assert.equal((await describe("socket")).messages, 0));
});

test("a page of another origin can neither read nor do anything", async (t) => {
    await create("private");
    await publish("private", "secret");
    const server = http.createServer((request, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html>"));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve)); /* another port is another origin */
    t.after(() => server.close().closeAllConnections());
    const page = await strangersPage(t, `http://127.0.0.1:${server.address().port}/`);
    const got = await page.evaluate(async (broker) => {
        const outcome = (promise) => promise.then(() => "allowed", () => "refused");
        return {
            read: await outcome(fetch(`${broker}/v1/queues/private/messages`)),
            post: await outcome(fetch(`${broker}/v1/queues/private/messages`, { method: "POST", body: "forged" })),
            /* A simple request is sent without asking first; only the broker itself can refuse it. */
            blind: await outcome(fetch(`${broker}/v1/queues/private/purge`, { method: "POST", mode: "no-cors" })),
            socket: await new Promise((resolve) => {
                const socket = new WebSocket(`${broker.replace("http", "ws")}/v1/ws`, ["brokerd.v1.json"]);
                socket.onopen = () => resolve("allowed");
                socket.onclose = () => resolve("refused");
            }),
            events: await new Promise((resolve) => {
                const events = new EventSource(`${broker}/v1/queues/private/events?from=beginning`);
                events.onmessage = () => resolve("allowed");
                events.onerror = () => resolve("refused");
            }),
        };
    }, url);
    assert.deepEqual(got, { read: "refused", post: "refused", blind: "allowed", socket: "refused", events: "refused" });
    const { messages, published } = await describe("private");
    assert.deepEqual([messages, published], [1, 1], "something was done all the same");
});
