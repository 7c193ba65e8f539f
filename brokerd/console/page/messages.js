/* Looking at a queue without taking anything from it: its messages, and those that wait for their time. */

import { at, get, send } from "./api.js";
import { confirmDialog, openDialog } from "./dialog.js";
import { field, h, replace, select, statusLine, toast } from "./dom.js";
import { ago, durationValue, plural } from "./format.js";
import { messageItem } from "./message.js";

/*
 * A list of messages that is filled page by page: page(from) -> {messages, next} (next: 0 at the end); item(message)
 * -> element; empty(): what stands there if there are none.
 */
export function messageList({ page, item, empty, label }) {
    const list = h("ol", { class: "messages", "aria-label": label });
    const outcome = statusLine();
    const more = h("button", { type: "button", hidden: true }, "Show more");
    let turn = 0;

    async function load(from) {
        const mine = ++turn;
        if (!from) outcome.say("Looking…");
        try {
            const got = await page(from);
            if (mine !== turn) return;
            if (!from) list.replaceChildren();
            const first = list.childElementCount;
            list.append(...got.messages.map(item));
            more.hidden = !got.next;
            more.onclick = () => load(got.next);
            if (list.childElementCount === 0 && !got.next) replace(list, h("li", { class: "empty" }, empty()));
            outcome.say(list.querySelector("[data-seq]") ? `${plural(list.querySelectorAll("[data-seq]").length, "message")} shown.` : "");
            if (from && list.children[first]) list.children[first].querySelector("summary").focus();
        } catch (problem) {
            if (mine !== turn) return;
            if (!from) list.replaceChildren();
            more.hidden = true;
            outcome.say(problem.message, "bad");
        }
    }
    return { element: h("div", null, outcome.element, list, more), list, load: () => load(0), say: outcome.say };
}

/* What the two tabs do with one message. */
async function deleteMessage(queue, m, li, state) {
    const gone = await confirmDialog({
        title: `Delete message ${m.seq}?`,
        text: `Message ${m.seq} of ${queue} will be gone for every group. This cannot be undone.`,
        label: "Delete",
        submit: () => send("DELETE", at(queue, "messages", m.seq), { query: { state } }),
    });
    if (!gone) return;
    const next = li().nextElementSibling || li().previousElementSibling;
    li().remove();
    toast(`Message ${m.seq} was deleted.`, "good");
    const summary = next && next.querySelector("summary");
    if (summary) summary.focus();
}

/* ---- the tab "Messages" ---------------------------------------------------------------------------------------------------- */

export function messagesTab(queue) {
    const from = h("input", { type: "text", inputmode: "numeric", placeholder: "oldest", autocomplete: "off" });
    const state = select([["any", "all"], ["available", "available"], ["scheduled", "waiting for their time"]], "any");
    const max = select([["20", "20"], ["50", "50"], ["100", "100"]], "20");
    const key = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    const topic = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "orders.>" });
    const header = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "name:value" });

    const query = (start) => ({
        from: start || from.value.trim(),
        state: state.value === "any" ? "" : state.value,
        max: max.value,
        key: key.value,
        topic: topic.value.trim(),
        header: header.value.trim(),
    });
    const messages = messageList({
        label: "Messages",
        page: (start) => get(at(queue, "peek"), query(start)),
        item: (m) => {
            const tags = m.due_ms > Date.now() ? [`due ${ago(m.due_ms)}`] : [];
            const li = messageItem(m, {
                tags,
                actions: [h("button", { type: "button", class: "danger-quiet", onclick: () => deleteMessage(queue, m, () => li) }, "Delete…")],
            });
            return li;
        },
        empty: () =>
            key.value || topic.value || header.value || from.value
                ? h("p", null, "No message matches.")
                : [h("p", { class: "lead" }, "No messages."), h("p", null, "Publish one in the tab beside this, or:"), h("pre", null, `curl -d 'hello' ${location.origin}${at(queue, "messages")}`)],
    });
    const form = h(
        "form",
        { class: "row-form", novalidate: true },
        field("From seq", from),
        field("Which", state),
        field("At a time", max),
        field("Key", key),
        field("Topic", topic),
        field("Header", header),
        h("button", { type: "submit", class: "primary" }, "Look"),
    );
    form.addEventListener("submit", (e) => {
        e.preventDefault();
        messages.load();
    });
    messages.load();
    return { element: h("div", null, h("p", { class: "muted" }, "Nothing is taken: consumers get these messages all the same."), form, messages.element) };
}

/* ---- the tab "Scheduled" ----------------------------------------------------------------------------------------------------- */

export function scheduledTab(queue) {
    const messages = messageList({
        label: "Scheduled messages",
        page: (start) => get(at(queue, "scheduled"), { from: start || "", max: 50 }),
        item: (m) => {
            const li = messageItem(m, {
                tags: [m.due_ms ? `due ${ago(m.due_ms)}` : "waiting"],
                actions: [
                    h("button", { type: "button", onclick: () => reschedule(m) }, "Give it another time…"),
                    h("button", { type: "button", class: "danger-quiet", onclick: () => deleteMessage(queue, m, () => li, "scheduled") }, "Cancel it…"),
                ],
            });
            return li;
        },
        empty: () => [h("p", { class: "lead" }, "Nothing waits for its time."), h("p", null, "A message that is published with a delay stands here until it is due.")],
    });

    async function reschedule(m) {
        const delay = h("input", { type: "text", autocomplete: "off", value: "0" });
        const done = await openDialog({
            title: `When shall message ${m.seq} be due?`,
            content: field("In", delay, "From now on, such as 0, 30s, 5min, 2h, 7d."),
            label: "Reschedule",
            submit: async () => {
                await send("PATCH", at(queue, "messages", m.seq), { json: { delay_ms: durationValue(delay.value) } });
                return true;
            },
        });
        if (!done) return;
        toast(`Message ${m.seq} has a new time.`, "good");
        messages.load();
    }

    messages.load();
    return {
        element: h(
            "div",
            null,
            h("div", { class: "actions" }, h("button", { type: "button", onclick: messages.load }, "Look again")),
            messages.element,
        ),
    };
}
