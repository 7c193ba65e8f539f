/* One message: a line that says what it is, and behind it headers and body as text, JSON or bytes. */

import { h, replace, setAttr } from "./dom.js";
import { ago, bytes, moment } from "./format.js";

const DEEPEST = 100; /* JSON nested deeper is shown as it came: each level would make every line longer */
const SHOWN = 64 << 10; /* of a body at first: a browser chokes on megabytes in one element */

/* The bytes that a message's field holds, as text or base64-coded. */
function bytesOf(message, name) {
    const coded = message[`${name}_base64`];
    if (coded !== undefined) return Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
    return new TextEncoder().encode(message[name] ?? "");
}

function hex(all) {
    const lines = [];
    for (let i = 0; i < all.length; i += 16) {
        const row = all.subarray(i, i + 16);
        const codes = [...row].map((b) => b.toString(16).padStart(2, "0")).join(" ");
        const text = [...row].map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
        lines.push(`${i.toString(16).padStart(6, "0")}  ${codes.padEnd(47)}  ${text}`);
    }
    return lines.join("\n");
}

/* JSON text laid out anew, token by token: every number keeps the digits that were sent. null: no object or array. */
function pretty(text) {
    try {
        const value = JSON.parse(text);
        if (typeof value !== "object" || value === null) return null;
    } catch (e) {
        return null;
    }
    let out = "", depth = 0, last = "";
    const line = () => "\n" + "  ".repeat(depth);
    for (const [token] of text.matchAll(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
        const closes = token === "}" || token === "]";
        if (closes) depth--;
        if (last === "{" || last === "[") out += closes ? "" : line();
        else if (last === "," || closes) out += line();
        else if (last === ":") out += " ";
        out += token;
        if (token === "{" || token === "[") depth++;
        if (depth > DEEPEST) return null;
        last = token;
    }
    return out;
}

/* The body with a switch between its forms. */
function bodyView(message) {
    const all = bytesOf(message, "body");
    const isText = message.body_base64 === undefined;
    const json = isText && all.length <= 1 << 20 ? pretty(message.body ?? "") : null;
    const forms = [];
    if (json !== null) forms.push(["JSON", () => json]);
    if (isText) forms.push(["Text", () => message.body ?? ""]);
    forms.push(["Hex", (most) => hex(most ? all.subarray(0, most / 4) : all)]);

    const shown = h("pre", { class: "body", tabindex: "0", "aria-label": "Body" });
    const more = h("p", { class: "muted" });
    const buttons = forms.map(([name, make]) => h("button", { type: "button", class: "tabbed", onclick: () => show(name, make, SHOWN) }, name));
    function show(name, make, most) {
        const text = make(most);
        shown.textContent = most && text.length > most ? text.slice(0, most) : text;
        const cut = most && (text.length > most || (name === "Hex" && all.length > most / 4));
        replace(more, cut && ["Only the beginning is shown. ", h("button", { type: "button", class: "quiet small", onclick: () => show(name, make, 0) }, "Show all")]);
        buttons.forEach((b) => setAttr(b, "aria-pressed", String(b.textContent === name)));
    }
    show(...forms[0], SHOWN);
    if (all.length === 0) return h("p", { class: "muted" }, "The body is empty.");
    return h("div", null, h("div", { class: "segmented", role: "group", "aria-label": "Show the body as" }, buttons), shown, more);
}

function pairs(list) {
    return h("dl", { class: "pairs" }, list.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

function facts(m) {
    const text = (name) => m[name] ?? (m[`${name}_base64`] !== undefined ? `${m[`${name}_base64`]} (base64)` : undefined);
    const list = [
        ["Accepted", m.time_ms && `${moment(m.time_ms)} (${ago(m.time_ms)})`],
        ["Due", m.due_ms && `${moment(m.due_ms)} (${ago(m.due_ms)})`],
        ["Expires", m.expire_ms && `${moment(m.expire_ms)} (${ago(m.expire_ms)})`],
        ["Id", text("id")],
        ["Key", text("key")],
        ["Topic", m.topic],
        ["Priority", m.priority],
        ["Attempt", m.attempt],
        ["Size of the body", bytes(bytesOf(m, "body").length)],
    ];
    return list.filter(([, value]) => value !== undefined && value !== 0 && value !== "").map(([name, value]) => [name, String(value)]);
}

function preview(m) {
    if (m.body_base64 !== undefined) return `${bytes(bytesOf(m, "body").length)} of binary`;
    return (m.body ?? "").slice(0, 200).replace(/\s+/g, " ") || "(empty)";
}

/*
 * A message as an element of a list; it opens on Enter or a click. tags: short texts for its line; before: an element at the
 * line's left (a check box); actions: buttons that stand below the body.
 */
export function messageItem(m, { tags = [], before = null, actions = [] } = {}) {
    const marks = [m.key !== undefined && `key ${m.key}`, m.topic && m.topic, m.priority ? `priority ${m.priority}` : "", ...tags].filter(Boolean);
    const inside = h("div", { class: "message-inside" });
    const details = h(
        "details",
        { class: "message" },
        h(
            "summary",
            null,
            h("span", { class: "seq" }, String(m.seq)),
            h("span", { class: "preview" }, preview(m)),
            h("span", { class: "marks" }, marks.map((t) => h("span", { class: "mark" }, t))),
            h("time", { class: "when", title: moment(m.time_ms) }, m.time_ms ? ago(m.time_ms) : ""),
        ),
        inside,
    );
    /* Made when it is opened: a list of a hundred large messages costs their lines only. */
    details.addEventListener("toggle", () => {
        if (!details.open || inside.childElementCount) return;
        const headers = Object.entries(m.headers || {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]);
        replace(
            inside,
            pairs(facts(m)),
            headers.length > 0 && [h("h4", null, "Headers"), pairs(headers)],
            h("h4", null, "Body"),
            bodyView(m),
            actions.length > 0 && h("div", { class: "actions" }, actions),
        );
    });
    return h("li", { "data-seq": m.seq }, before, details);
}
