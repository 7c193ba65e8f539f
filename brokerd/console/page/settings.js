/*
 * A queue's settings as a form. The broker alone judges values: what makes no number is sent as it was typed, and the
 * broker's sentence is shown, at the setting that it names.
 */

import { at, get, send } from "./api.js";
import { confirmDialog } from "./dialog.js";
import { check, field, h, replace, select, setAttr, statusLine } from "./dom.js";
import { bytesText, bytesValue, countValue, durationText, durationValue } from "./format.js";

const time = { text: durationText, value: durationValue };
const size = { text: bytesText, value: bytesValue };
const number = { text: (n) => String(n), value: countValue };
const words = { text: (s) => s, value: (s) => s.trim() };
const flag = { flag: true };
const choice = (...options) => ({ options });

/* [key, label, kind, default, help]; keys and meanings are those of docs/PROTOCOL.md, "Queues and groups". */
const SECTIONS = [
    ["Keeping", [
        ["retention", "Retention", choice(["work", "work"], ["log", "log"]), "work", "work: a message goes when every group has settled it; log: by age, bytes or number."],
        ["log_max_age_ms", "Log: oldest age", time, 0, "For retention log, such as 7d. 0: no limit."],
        ["log_max_bytes", "Log: most bytes", size, 0, "Such as 10GiB. 0: no limit."],
        ["log_max_messages", "Log: most messages", number, 0, "0: no limit."],
        ["compact", "Keep only the newest message of each key (log)", flag, false],
        ["ttl_ms", "Messages expire after", time, 0, "Such as 1h. 0: never."],
        ["unused_ms", "Delete the queue when unused for", time, 0, "0: never."],
        ["sync", "A publish is confirmed", choice(["always", "always"], ["interval", "interval"], ["none", "none"]), "always", "always: when it is on disk; the others: before."],
    ]],
    ["Delivery", [
        ["lease_ms", "Lease", time, 30000, "How long a delivered message is hidden from others, such as 30s."],
        ["max_attempts", "Most attempts", number, 0, "Then it goes to the dead letters. 0: no limit."],
        ["backoff", "Wait before a retry", choice(["none", "none"], ["fixed", "fixed"], ["exponential", "exponential"]), "none"],
        ["backoff_ms", "Wait: at first", time, 0, "Such as 500ms."],
        ["backoff_max_ms", "Wait: at most", time, 0, "Exponential only. 0: one day."],
        ["backoff_jitter_percent", "Wait: jitter in percent", number, 0, "Up to this part is taken off by chance."],
        ["ordered_keys", "One message of a key at a time, in order", flag, true],
        ["fair_keys", "Keys take turns", flag, false],
    ]],
    ["Dead letters", [
        ["dead_letter", "Queue for dead letters", words, "", "Empty: this queue's name and .dead."],
        ["dead_letter_expired", "Expired messages go there too", flag, false],
    ]],
    ["Limits", [
        ["max_messages", "Most messages", number, 0, "0: no limit."],
        ["max_bytes", "Most bytes", size, 0, "0: no limit."],
        ["overflow", "Over a limit", choice(["reject", "reject"], ["drop_oldest", "drop_oldest"]), "reject", "reject: the publisher hears that it is full; drop_oldest: the oldest go."],
        ["max_message_bytes", "Largest message", size, 0, "Such as 1MiB. 0: the broker's limit."],
        ["dedup_ms", "Message ids are remembered for", time, 120000, "0: ids are not looked at."],
        ["dedup_count", "and at most so many", number, 100000],
    ]],
];

/* These four are set together: one without the others would be refused. */
const BACKOFF = ["backoff", "backoff_ms", "backoff_max_ms", "backoff_jitter_percent"];

/* values: a queue's, or {} for a new one. changes(): the settings that differ from them; blame(text): mark what it names. */
export function settingsForm(values) {
    const controls = new Map();
    const control = ([key, label, kind, standard, help]) => {
        const value = values[key] ?? standard;
        let input, read;
        if (kind.flag) {
            input = h("input", { type: "checkbox" });
            input.checked = value;
            read = () => input.checked;
        } else if (kind.options) {
            input = select(kind.options, value);
            read = () => input.value;
        } else {
            input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", value: kind.text(value) });
            /* Left as it is it means what it meant, though the text be rounded. */
            const shown = input.value;
            read = () => (input.value === shown ? value : kind.value(input.value));
        }
        input.name = key;
        controls.set(key, { input, read, before: value });
        input.addEventListener("input", () => setAttr(input, "aria-invalid", null));
        return kind.flag ? check(label, input, help) : field(label, input, help);
    };
    const element = h(
        "div",
        { class: "settings" },
        SECTIONS.map(([title, rows]) => h("fieldset", null, h("legend", null, title), h("div", { class: "form-grid" }, rows.map(control)))),
    );
    return {
        element,
        changes() {
            const out = {};
            for (const [key, c] of controls) if (c.read() !== c.before) out[key] = c.read();
            if (BACKOFF.some((key) => key in out)) for (const key of BACKOFF) out[key] = controls.get(key).read();
            return out;
        },
        clear() {
            for (const c of controls.values()) setAttr(c.input, "aria-invalid", null);
        },
        blame(text) {
            const named = [...controls.keys()].filter((key) => new RegExp(`\\b${key}\\b`).test(text.replaceAll("-", "_")));
            for (const key of named) setAttr(controls.get(key).input, "aria-invalid", "true");
            if (named.length) controls.get(named[0]).input.focus();
        },
    };
}

/* ---- the tab -------------------------------------------------------------------------------------------------------------- */

export function settingsTab(queue) {
    const element = h("div", null, h("p", { class: "muted" }, "Reading the settings…"));
    let form;
    const outcome = statusLine();

    async function load() {
        let described;
        try {
            described = await get(at(queue));
        } catch (problem) {
            replace(element, h("p", { class: "notice bad" }, problem.message));
            return;
        }
        form = settingsForm(described.queue);
        const save = h("button", { type: "submit", class: "primary" }, "Save");
        const undo = h("button", { type: "button" }, "Undo");
        undo.addEventListener("click", () => {
            outcome.say("");
            load();
        });
        const shape = h("form", { novalidate: true }, form.element, h("div", { class: "actions sticky" }, save, undo, outcome.element));
        shape.addEventListener("submit", (e) => {
            e.preventDefault();
            alter(save);
        });
        shape.addEventListener("input", () => outcome.say(""));
        replace(element, shape, bindings(queue, described.bindings || []));
    }

    async function alter(save) {
        const changes = form.changes();
        form.clear();
        if (!Object.keys(changes).length) {
            outcome.say("Nothing was changed.");
            return;
        }
        save.disabled = true;
        try {
            await send("PATCH", at(queue), { json: changes });
            await load();
            outcome.say(`Saved: ${Object.keys(changes).join(", ")}.`, "good");
        } catch (problem) {
            outcome.say(problem.message, "bad");
            form.blame(problem.message);
        }
        save.disabled = false;
    }

    load();
    return { element };
}

/* Topics whose messages come to this queue as well. */
function bindings(queue, patterns) {
    const outcome = statusLine();
    const list = h("ul", { class: "chips", "aria-label": "Bound patterns" });
    const pattern = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "orders.*.created", maxlength: "255" });

    const draw = () =>
        replace(
            list,
            patterns.length === 0 && h("li", { class: "muted plain" }, "None: only what is published to the queue by its name comes here."),
            patterns.map((p) =>
                h("li", null, h("code", null, p), h("button", { type: "button", class: "quiet small", "aria-label": `Unbind ${p}`, onclick: () => unbind(p) }, "×")),
            ),
        );

    async function unbind(p) {
        const gone = await confirmDialog({
            title: "Unbind the pattern?",
            text: `What is published to topics like ${p} no longer comes to ${queue}. What is there already stays.`,
            label: "Unbind",
            submit: () => send("DELETE", at(queue, "bindings", p)),
        });
        if (!gone) return;
        patterns = patterns.filter((x) => x !== p);
        draw();
        pattern.focus();
    }

    const form = h("form", { class: "row-form", novalidate: true }, field("Topic pattern", pattern), h("button", { type: "submit" }, "Bind"), outcome.element);
    form.addEventListener("submit", async (e) => {
        e.preventDefault();
        const p = pattern.value.trim();
        if (!p) return;
        try {
            await send("PUT", at(queue, "bindings", p));
            if (!patterns.includes(p)) patterns = [...patterns, p].sort();
            pattern.value = "";
            outcome.say(`Bound ${p}.`, "good");
            draw();
        } catch (problem) {
            outcome.say(problem.message, "bad");
        }
    });
    draw();
    return h("section", { class: "block" }, h("h3", null, "Topics"), h("p", { class: "muted" }, "Messages published to a topic that a pattern matches come to this queue. * is one token, > the rest."), list, form);
}
