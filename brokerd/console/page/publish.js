/* The tab that publishes one message. It goes as JSON, so that every name and value may be any text. */

import { at, Problem, send } from "./api.js";
import { field, h, select, statusLine } from "./dom.js";
import { countValue, durationValue } from "./format.js";

export function publishTab(queue) {
    const body = h("textarea", { rows: "8", spellcheck: "false", autocomplete: "off" });
    const kind = select([["", "none"], ["text/plain", "text/plain"], ["application/json", "application/json"]], "", { "aria-label": "Content type" });
    const key = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    const priority = select([...Array(10).keys()].map((n) => [String(n), n === 9 ? "9 (first)" : String(n)]), "0");
    const delay = h("input", { type: "text", autocomplete: "off", placeholder: "0" });
    const ttl = h("input", { type: "text", autocomplete: "off", placeholder: "the queue's" });
    const id = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    const headers = headerRows();
    const outcome = statusLine();
    const go = h("button", { type: "submit", class: "primary" }, "Publish");

    function message() {
        const m = { body: body.value };
        if (key.value) m.key = key.value;
        if (id.value) m.id = id.value;
        if (priority.value !== "0") m.priority = countValue(priority.value);
        if (delay.value.trim()) m.delay_ms = durationValue(delay.value);
        if (ttl.value.trim()) m.ttl_ms = durationValue(ttl.value);
        const all = headers.read();
        if (kind.value) all["content-type"] ??= kind.value;
        if (Object.keys(all).length) m.headers = all;
        return m;
    }

    const form = h(
        "form",
        { novalidate: true, class: "publish" },
        field("Body", body),
        h(
            "div",
            { class: "form-grid" },
            field("Content type", kind),
            field("Key", key, "Messages of one key are handed out one at a time, in order."),
            field("Priority", priority, "Higher ones first."),
            field("Delay", delay, "Such as 30s, 5min, 2h, 7d."),
            field("Expires after", ttl, "Such as 1h."),
            field("Message id", id, "A second message with this id is recognised and not stored."),
        ),
        headers.element,
        h("div", { class: "actions" }, go, h("span", { class: "muted only-wide" }, "or Ctrl and Enter"), outcome.element),
    );
    form.addEventListener("keydown", (e) => {
        if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) form.requestSubmit();
    });
    form.addEventListener("submit", async (e) => {
        e.preventDefault();
        if (go.disabled) return;
        go.disabled = true;
        outcome.say("Publishing…");
        try {
            const answer = await send("POST", at(queue, "messages", "batch"), { json: [message()] });
            const [result] = answer.results;
            if (result.error) throw new Problem(result.error.status, result.error);
            outcome.say(result.duplicate ? `This id was published before, as seq ${result.seq}.` : `Stored as seq ${result.seq}.`, "good");
        } catch (problem) {
            outcome.say(problem.message, "bad");
        }
        go.disabled = false;
    });
    return { element: form };
}

/* Rows of a name and a value each; the last can always be removed, and one more always be added. */
function headerRows() {
    const rows = h("div", { class: "header-rows" });
    const add = h("button", { type: "button" }, "Add a header");
    add.addEventListener("click", () => {
        const name = h("input", { type: "text", "aria-label": "Header name", placeholder: "name", autocomplete: "off", spellcheck: "false" });
        const value = h("input", { type: "text", "aria-label": "Header value", placeholder: "value", autocomplete: "off", spellcheck: "false" });
        const remove = h("button", { type: "button", class: "quiet", "aria-label": "Remove this header" }, "×");
        const row = h("div", { class: "header-row" }, name, value, remove);
        remove.addEventListener("click", () => {
            row.remove();
            add.focus();
        });
        rows.append(row);
        name.focus();
    });
    return {
        element: h("fieldset", { class: "plain" }, h("legend", null, "Headers"), rows, add),
        read() {
            const out = {};
            for (const row of rows.children) {
                const [name, value] = row.querySelectorAll("input");
                if (name.value) out[name.value] = value.value;
            }
            return out;
        },
    };
}

