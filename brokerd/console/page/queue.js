/* One queue: its figures live, what can be done with it, and a tab for each way to look at it. */

import { at, get, send } from "./api.js";
import { deadTab } from "./dead.js";
import { confirmDialog, openDialog } from "./dialog.js";
import { field, h, replace, setAttr, setText, toast } from "./dom.js";
import { bytes, count, duration, plural, rate } from "./format.js";
import { groupsTab } from "./groups.js";
import { messagesTab, scheduledTab } from "./messages.js";
import { publishTab } from "./publish.js";
import { settingsTab } from "./settings.js";
import { history, stats, watch } from "./stats.js";
import { tailTab } from "./tail.js";
import { tile } from "./tile.js";

const TABS = [
    ["messages", "Messages", messagesTab],
    ["publish", "Publish", publishTab],
    ["tail", "Live tail", tailTab],
    ["groups", "Groups", groupsTab],
    ["dead", "Dead letters", deadTab],
    ["scheduled", "Scheduled", scheduledTab],
    ["settings", "Settings", settingsTab],
];

export function queuePage(name, tab) {
    const href = (id) => `#/queues/${encodeURIComponent(name)}${id === "messages" ? "" : `/${id}`}`;
    const links = new Map(TABS.map(([id, label]) => [id, h("a", { href: href(id) }, label)]));
    const panel = h("section", { class: "tab-panel" });
    const tiles = queueTiles(name);
    const badge = h("span", { class: "badge", hidden: true }, "paused");
    const pause = h("button", { type: "button" }, "Pause");
    const missing = h("div", { class: "notice bad", hidden: true });
    let open = null;
    let current = "";

    function go(id) {
        const [key, label, make] = TABS.find(([t]) => t === id) || TABS[0];
        if (open && open.leave) open.leave();
        for (const [k, link] of links) setAttr(link, "aria-current", k === key ? "page" : null);
        current = key;
        open = make(name);
        panel.setAttribute("aria-label", label);
        replace(panel, open.element);
        links.get(key).scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    const isPaused = () => (stats.selected ? stats.selected.queue.paused : stats.queues.get(name)?.paused) || false;

    pause.addEventListener("click", async () => {
        const paused = isPaused();
        try {
            await send("POST", at(name, paused ? "resume" : "pause"));
            toast(paused ? `${name} goes on.` : `${name} is paused: publishing goes on, nothing is handed out.`, "good");
        } catch (problem) {
            toast(problem.message, "bad");
        }
    });

    const element = h(
        "div",
        null,
        h("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "Queues"), h("span", { "aria-hidden": "true" }, "/")),
        h(
            "div",
            { class: "toolbar" },
            h("h1", { class: "name" }, name),
            badge,
            h("span", { class: "grow" }),
            pause,
            h("button", { type: "button", onclick: () => purge(name, () => go(current)) }, "Purge…"),
            h("button", { type: "button", class: "danger-quiet", onclick: () => remove(name) }, "Delete…"),
        ),
        missing,
        tiles.element,
        h("nav", { class: "tabs", "aria-label": "About this queue" }, [...links.values()]),
        panel,
    );

    function update() {
        const q = stats.queues.get(name);
        tiles.update(q);
        const paused = isPaused();
        badge.hidden = !paused;
        setText(pause, paused ? "Resume" : "Pause");
        missing.hidden = !stats.fresh || Boolean(q);
        if (!missing.hidden && !missing.childElementCount) replace(missing, h("p", null, `There is no queue ${name} (any more). `, h("a", { href: "#/" }, "All queues")));
        if (open && open.update) open.update();
    }

    watch({ queue: name });
    go(tab);
    update();
    return { element, title: name, update, go, leave: () => open && open.leave && open.leave() };
}

function queueTiles(name) {
    const ready = tile("Ready", () => history(name).ready);
    const incoming = tile("In", () => history(name).in);
    const outgoing = tile("Out", () => history(name).out);
    const leased = tile("Leased");
    const scheduled = tile("Scheduled");
    const dead = tile("Dead");
    const oldest = tile("Oldest");
    const size = tile("Stored");
    const consumers = tile("Consumers");
    const all = [ready, incoming, outgoing, leased, scheduled, dead, oldest, size, consumers];
    return {
        element: h("dl", { class: "tiles small", "aria-label": "Figures" }, all.map((t) => t.element)),
        update(q) {
            if (!q) return;
            ready.show(count(q.ready));
            incoming.show(`${rate(q.in_rate)} /s`);
            outgoing.show(`${rate(q.out_rate)} /s`);
            leased.show(count(q.leased));
            scheduled.show(count(q.scheduled));
            dead.show(count(q.dead), "", q.dead > 0 ? "bad" : "");
            oldest.show(q.oldest_ms ? duration(q.oldest_ms) : "–");
            size.show(bytes(q.bytes));
            consumers.show(count(q.consumers), q.groups === undefined ? "" : plural(q.groups, "group"));
        },
    };
}

/* ---- what cannot be taken back ---------------------------------------------------------------------------------------------- */

async function purge(name, after) {
    let there;
    try {
        there = (await get(at(name))).queue;
    } catch (problem) {
        toast(problem.message, "bad");
        return;
    }
    if (!there.messages) {
        toast(`${name} has no messages.`);
        return;
    }
    let answer;
    const done = await confirmDialog({
        title: `Purge ${name}?`,
        text: `${plural(there.messages, "message")} will be gone for every group, also those that wait for their time or are leased. This cannot be undone.`,
        label: `Purge ${count(there.messages)}`,
        submit: async () => {
            answer = await send("POST", at(name, "purge"));
        },
    });
    if (!done) return;
    toast(`${plural(answer.purged, "message")} purged.`, "good");
    after();
}

async function remove(name) {
    const typed = h("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
    const q = stats.queues.get(name);
    const gone = await openDialog({
        title: `Delete ${name}?`,
        content: [
            h("p", null, q && q.messages ? `The queue, its groups and ${plural(q.messages, "message")} will be gone. This cannot be undone.` : "The queue and its groups will be gone. This cannot be undone."),
            field(`Type ${name} to confirm`, typed),
        ],
        label: "Delete queue",
        danger: true,
        ready: () => typed.value === name,
        submit: async () => {
            await send("DELETE", at(name));
            return true;
        },
    });
    if (!gone) return;
    toast(`Queue ${name} is gone.`, "good");
    location.hash = "#/";
}
