/* The groups of a queue: independent positions, with what each has before it. */

import { at, get, send } from "./api.js";
import { confirmDialog, openDialog } from "./dialog.js";
import { check, field, h, select, setAttr, setText, toast } from "./dom.js";
import { count } from "./format.js";
import { stats } from "./stats.js";

const COLUMNS = [
    ["Lag", (g) => count(g.lag)],
    ["Ready", (g) => count(g.ready)],
    ["Leased", (g) => count(g.leased)],
    ["Delayed", (g) => count(g.delayed)],
    ["Blocked", (g) => count(g.blocked)],
    ["Next seq", (g) => String(g.cursor_seq)],
    ["Consumers", (g) => count(g.consumers)],
];

export function groupsTab(queue) {
    const rows = new Map();
    const body = h("tbody", { role: "rowgroup" });
    const table = h(
        "table",
        { class: "cards", role: "table", "aria-label": "Groups" },
        h(
            "thead",
            { role: "rowgroup" },
            h(
                "tr",
                { role: "row" },
                h("th", { scope: "col", role: "columnheader", class: "name" }, "Group"),
                COLUMNS.map(([head]) => h("th", { scope: "col", role: "columnheader", class: "num" }, head)),
                h("th", { scope: "col", role: "columnheader", class: "num" }, "Actions"),
            ),
        ),
        body,
    );
    const notice = h("p", { class: "muted" });
    let groups = [];

    function row(name) {
        const cells = COLUMNS.map(([head]) => h("td", { role: "cell", class: "num", "data-label": head }));
        const note = h("span", { class: "mark", hidden: true });
        const element = h(
            "tr",
            { role: "row" },
            h("th", { scope: "row", role: "rowheader", class: "name" }, name, " ", note),
            cells,
            h(
                "td",
                { role: "cell", class: "num buttons" },
                h("button", { type: "button", class: "small", "aria-label": `Seek ${name}`, onclick: () => seek(name) }, "Seek…"),
                h("button", { type: "button", class: "small danger-quiet", "aria-label": `Delete ${name}`, onclick: () => remove(name) }, "Delete…"),
            ),
        );
        return {
            element,
            update(g) {
                COLUMNS.forEach(([, show], i) => setText(cells[i], show(g)));
                const marks = [g.single_active && "single active", g.filter && Object.keys(g.filter).length && "filtered"].filter(Boolean);
                note.hidden = marks.length === 0;
                setText(note, marks.join(", "));
                setAttr(note, "title", g.filter ? JSON.stringify(g.filter) : null);
            },
        };
    }

    function draw() {
        for (const [name, r] of rows) {
            if (!groups.some((g) => g.name === name)) {
                r.element.remove();
                rows.delete(name);
            }
        }
        for (const g of groups) {
            let r = rows.get(g.name);
            if (!r) {
                rows.set(g.name, (r = row(g.name)));
                body.append(r.element);
            }
            r.update(g);
        }
        table.hidden = groups.length === 0;
        setText(notice, groups.length ? "" : "No group: messages stay until one is made and reads them.");
    }

    async function load() {
        try {
            groups = (await get(at(queue))).groups;
            draw();
        } catch (problem) {
            setText(notice, problem.message);
        }
    }

    async function seek(name) {
        const start = startFields();
        const done = await openDialog({
            title: `Where shall ${name} go on?`,
            content: [h("p", null, "Leases of the group end. What it had settled before the new position stays so only from there on."), start.element],
            label: "Seek",
            submit: async () => {
                await send("POST", at(queue, "groups", name, "seek"), { json: start.read() });
                return true;
            },
        });
        if (!done) return;
        toast(`Group ${name} was moved.`, "good");
        load();
    }

    async function remove(name) {
        const gone = await confirmDialog({
            title: `Delete group ${name}?`,
            text: `Its position is forgotten and its subscriptions end. Messages that only it still needed go. This cannot be undone.`,
            label: "Delete group",
            submit: () => send("DELETE", at(queue, "groups", name)),
        });
        if (!gone) return;
        toast(`Group ${name} is gone.`, "good");
        load();
    }

    async function create() {
        const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: "255" });
        const start = startFields();
        const single = h("input", { type: "checkbox" });
        const topic = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "orders.>" });
        const key = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
        const made = await openDialog({
            title: "New group",
            content: [
                field("Name", name, "Letters, digits and . _ -"),
                start.element,
                check("One consumer at a time", single),
                h("details", { class: "more" }, h("summary", null, "Only some messages"), field("Topic pattern", topic), field("Key", key)),
            ],
            label: "Create",
            ready: () => name.value.trim() !== "",
            submit: async () => {
                const json = start.read();
                if (single.checked) json.single_active = true;
                if (topic.value.trim() || key.value) json.filter = {};
                if (topic.value.trim()) json.filter.topic = topic.value.trim();
                if (key.value) json.filter.key = key.value;
                await send("PUT", at(queue, "groups", name.value.trim()), { json });
                return name.value.trim();
            },
        });
        if (!made) return;
        toast(`Group ${made} is there.`, "good");
        load();
    }

    load();
    return {
        element: h(
            "div",
            null,
            h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: create }, "New group")),
            notice,
            h("div", { class: "panel" }, table),
        ),
        update() {
            if (!stats.selected || stats.selected.queue.name !== queue) return;
            groups = stats.selected.groups;
            draw();
        },
    };
}

/* Where a group begins: the beginning, the end, a seq or a time. */
function startFields() {
    const start = select([["beginning", "at the oldest message"], ["end", "with what comes from now on"], ["seq", "at a seq"], ["time", "at a time"]], "beginning");
    const seq = h("input", { type: "text", inputmode: "numeric", autocomplete: "off" });
    const time = h("input", { type: "datetime-local", step: "1" });
    const seqField = field("Seq", seq);
    const timeField = field("Time", time, "Your local time.");
    const look = () => {
        seqField.hidden = start.value !== "seq";
        timeField.hidden = start.value !== "time";
    };
    start.addEventListener("change", look);
    look();
    return {
        element: h("div", null, field("Start", start), seqField, timeField),
        read() {
            const out = { start: start.value };
            if (start.value === "seq") out.value = /^\d+$/.test(seq.value.trim()) ? Number(seq.value) : seq.value;
            if (start.value === "time") out.value = time.value ? new Date(time.value).getTime() : time.value;
            return out;
        },
    };
}

