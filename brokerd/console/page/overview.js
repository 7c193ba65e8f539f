/* All of it at a glance: the broker's figures as tiles, the queues as a table. */

import { at, send } from "./api.js";
import { openDialog } from "./dialog.js";
import { field, h, replace, select, setAttr, setText, toast } from "./dom.js";
import { bytes, count, duration, micros, plural, rate } from "./format.js";
import { settingsForm } from "./settings.js";
import { Sparkline } from "./sparkline.js";
import { history, stats, watch } from "./stats.js";
import { tile } from "./tile.js";

/* One row a column: its key, its heading, what it shows of a queue, and by what it is sorted (a number unless it is the name). */
const COLUMNS = [
    { key: "name", head: "Queue" },
    { key: "ready", head: "Ready", show: (q) => count(q.ready), by: (q) => q.ready },
    { key: "leased", head: "Leased", show: (q) => count(q.leased), by: (q) => q.leased },
    { key: "scheduled", head: "Scheduled", show: (q) => count(q.scheduled), by: (q) => q.scheduled },
    { key: "dead", head: "Dead", show: (q) => count(q.dead), by: (q) => q.dead },
    { key: "in", head: "In /s", show: (q) => rate(q.in_rate), by: (q) => q.in_rate, spark: "in" },
    { key: "out", head: "Out /s", show: (q) => rate(q.out_rate), by: (q) => q.out_rate, spark: "out" },
    { key: "oldest", head: "Oldest", show: (q) => (q.oldest_ms ? duration(q.oldest_ms) : "–"), by: (q) => q.oldest_ms || 0 },
    { key: "bytes", head: "Bytes", show: (q) => bytes(q.bytes), by: (q) => q.bytes },
    { key: "consumers", head: "Consumers", show: (q) => count(q.consumers), by: (q) => q.consumers },
];

const order = { key: "name", down: false }; /* kept while the page is open */
let prefix = "";

export function overview() {
    const tiles = brokerTiles();
    const table = queueTable();
    const search = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false", placeholder: "orders.", value: prefix });
    search.addEventListener("input", () => {
        prefix = search.value.trim();
        table.update(); /* at once, of what is known; the stream then tells the rest */
        watch({ prefix });
    });
    const sorting = select(COLUMNS.map((c) => [c.key, c.head.replace(" /s", " rate")]), order.key, { id: "sort", class: "only-narrow" });
    sorting.addEventListener("change", () => table.sort(sorting.value, sorting.value !== "name"));

    const element = h(
        "div",
        null,
        h("h1", null, "Overview"),
        tiles.element,
        h(
            "section",
            { "aria-labelledby": "queues-head" },
            h(
                "div",
                { class: "toolbar" },
                h("h2", { id: "queues-head" }, "Queues"),
                table.summary,
                h("div", { class: "field inline" }, h("label", { for: "filter" }, "Name begins with"), search),
                h("div", { class: "field inline only-narrow" }, h("label", { for: "sort" }, "Sort by"), sorting),
                h("button", { type: "button", class: "primary", onclick: createQueue }, "New queue"),
            ),
            table.element,
        ),
    );
    watch({ prefix });
    const update = () => {
        tiles.update();
        table.update();
        if (sorting.value !== order.key) sorting.value = order.key;
    };
    update();
    return { element, title: "Overview", update };
}

/* ---- tiles -------------------------------------------------------------------------------------------------------------- */

function brokerTiles() {
    const published = tile("Publishing", () => history("").in);
    const delivered = tile("Delivering", () => history("").out);
    const sync = tile("Sync to disk, p99");
    const connections = tile("Connections");
    const memory = tile("Memory");
    const disk = tile("Disk");
    const log = tile("Log position");
    const all = [published, delivered, sync, connections, memory, disk, log];
    return {
        element: h("dl", { class: "tiles", "aria-label": "The broker" }, all.map((t) => t.element)),
        update() {
            const b = stats.broker;
            if (!b) return;
            published.show(`${rate(b.publish_rate)} /s`, `${count(b.published)} since the start`);
            delivered.show(`${rate(b.deliver_rate)} /s`, `${count(b.delivered)} since the start`);
            sync.show(b.sync_p99_us ? micros(b.sync_p99_us) : "–", b.sync_p99_us ? `p50 ${micros(b.sync_p50_us)}` : "nothing was synced yet");
            const ways = b.connections;
            connections.show(count(ways.tcp + ways.http + ways.sse + ways.websocket), `TCP ${ways.tcp} · HTTP ${ways.http} · events ${ways.sse} · WebSocket ${ways.websocket}`);
            memory.show(bytes(b.rss_bytes), "resident");
            disk.show(bytes(b.disk_bytes), `${bytes(b.disk_free_bytes)} free of ${bytes(b.disk_total_bytes)}`);
            log.show(count(b.log_index), `in ${plural(b.segments, "segment")}`);
        },
    };
}

/* ---- the table ------------------------------------------------------------------------------------------------------------ */

function queueTable() {
    const rows = new Map(); /* name -> row */
    const body = h("tbody", { role: "rowgroup" });
    const heads = COLUMNS.map((c) => {
        const button = h("button", { type: "button", class: "sort", onclick: () => sort(c.key, order.key === c.key ? !order.down : c.key !== "name") }, c.head);
        return { column: c, element: h("th", { scope: "col", role: "columnheader", class: c.key === "name" ? "name" : "num" }, button) };
    });
    const table = h(
        "table",
        { class: "queues cards", role: "table", "aria-labelledby": "queues-head" },
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map((t) => t.element))),
        body,
    );
    const empty = h("div", { class: "empty" });
    const summary = h("p", { class: "summary" });
    const element = h("div", { class: "panel" }, table, empty);

    function sort(key, down) {
        order.key = key;
        order.down = down;
        update();
    }

    function sorted() {
        const column = COLUMNS.find((c) => c.key === order.key);
        const list = [...stats.queues.values()].filter((q) => q.name.startsWith(prefix));
        const names = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
        const compare = column.by ? (a, b) => column.by(a) - column.by(b) : names;
        list.sort((a, b) => (order.down ? compare(b, a) : compare(a, b)) || names(a, b));
        return list;
    }

    function update() {
        for (const t of heads) setAttr(t.element, "aria-sort", t.column.key !== order.key ? "none" : order.down ? "descending" : "ascending");
        const list = sorted();
        for (const [name, row] of rows) {
            if (!stats.queues.has(name) || !name.startsWith(prefix)) {
                row.element.remove();
                rows.delete(name);
            }
        }
        list.forEach((q, i) => {
            let row = rows.get(q.name);
            if (!row) rows.set(q.name, (row = queueRow(q.name)));
            row.update(q);
            if (body.children[i] !== row.element) body.insertBefore(row.element, body.children[i] || null);
        });
        table.hidden = list.length === 0;
        empty.hidden = list.length > 0;
        if (list.length === 0) replace(empty, whyEmpty());
        setText(summary, !stats.at ? "" : stats.more ? `the first ${count(list.length)} by name: narrow them` : plural(list.length, "queue"));
    }
    return { element, summary, update, sort };
}

function queueRow(name) {
    const badge = h("span", { class: "badge", hidden: true }, "paused");
    const cells = COLUMNS.slice(1).map((c) => {
        const text = h("span", { class: "figure" });
        const spark = c.spark ? new Sparkline(c.head) : null;
        return { column: c, text, spark, element: h("td", { role: "cell", class: "num", "data-label": c.head }, spark && spark.element, text) };
    });
    const element = h(
        "tr",
        { role: "row" },
        h("th", { scope: "row", role: "rowheader", class: "name" }, h("a", { href: `#/queues/${encodeURIComponent(name)}` }, name), badge),
        cells.map((c) => c.element),
    );
    return {
        element,
        update(q) {
            badge.hidden = !q.paused;
            for (const c of cells) {
                setText(c.text, c.column.show(q));
                setAttr(c.text, "data-kind", c.column.key === "dead" && q.dead > 0 ? "bad" : c.column.by(q) ? null : "zero");
                if (c.spark) c.spark.draw(history(name)[c.column.spark]);
            }
        },
    };
}

function whyEmpty() {
    if (!stats.at) return h("p", null, "Waiting for the broker's figures…");
    if (prefix) return h("p", null, `No queue's name begins with “${prefix}”.`);
    return [
        h("p", { class: "lead" }, "No queues yet."),
        h("p", null, "Create one with the button above, or from a terminal:"),
        h("pre", null, `curl -X PUT ${location.origin}/v1/queues/hello\ncurl -d 'first message' ${location.origin}/v1/queues/hello/messages`),
    ];
}

/* ---- a new queue ----------------------------------------------------------------------------------------------------------- */

async function createQueue() {
    const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off", maxlength: "255", required: true });
    const settings = settingsForm({});
    const made = await openDialog({
        title: "New queue",
        content: [
            field("Name", name, "Letters, digits and . _ - up to 255; not a dot first."),
            h("details", { class: "more" }, h("summary", null, "Settings (all can be altered later)"), settings.element),
        ],
        label: "Create",
        ready: () => name.value.trim() !== "",
        submit: async () => {
            settings.clear();
            try {
                await send("PUT", at(name.value.trim()), { json: settings.changes() });
            } catch (problem) {
                settings.blame(problem.message);
                throw problem;
            }
            return name.value.trim();
        },
    });
    if (made) {
        toast(`Queue ${made} is there.`, "good");
        location.hash = `#/queues/${encodeURIComponent(made)}`;
    }
}
