/* A queue as it grows: an event stream of it, read by position, so nothing is taken from any group. */

import { at } from "./api.js";
import { h, replace, select, setText } from "./dom.js";
import { plural } from "./format.js";
import { messageItem } from "./message.js";

const SHOWN = 200; /* the newest; older ones leave the list */

export function tailTab(queue) {
    const from = select([["end", "from now on"], ["beginning", "from the oldest message"]], "end");
    const button = h("button", { type: "button", class: "primary" }, "Start");
    const clear = h("button", { type: "button" }, "Clear");
    const list = h("ol", { class: "messages", "aria-label": "Messages as they come, newest first" });
    const state = h("p", { class: "outcome", role: "status" });
    let source = null;
    let seen = 0;
    let pending = [];
    let frame = 0;

    const say = (text) => setText(state, text);
    const empty = () => replace(list, h("li", { class: "empty" }, h("p", { class: "lead" }, "Nothing has come yet."), h("p", null, "What is published while this is open stands here at once.")));

    /* At most one change of the page per frame, however fast they come. */
    function flush() {
        frame = 0;
        const items = pending.slice(-SHOWN).reverse().map((m) => messageItem(m));
        pending = [];
        if (list.firstElementChild && list.firstElementChild.classList.contains("empty")) list.replaceChildren();
        list.prepend(...items);
        while (list.childElementCount > SHOWN) list.lastElementChild.remove();
        count();
    }
    const count = () => say(source ? `Following: ${plural(seen, "message")} so far.` : `Stopped after ${plural(seen, "message")}.`);

    function start() {
        const mine = (source = new EventSource(`${at(queue, "events")}?from=${from.value}`));
        setText(button, "Stop");
        from.disabled = true;
        say("Connecting…");
        mine.addEventListener("open", () => mine === source && count());
        mine.addEventListener("message", (e) => {
            if (mine !== source) return;
            seen++;
            pending.push(JSON.parse(e.data));
            if (pending.length > 2 * SHOWN) pending = pending.slice(-SHOWN);
            frame ||= requestAnimationFrame(flush);
        });
        mine.addEventListener("reset", () => mine === source && say("The broker could not go on where this stopped, and began anew."));
        mine.addEventListener("error", () => {
            if (mine !== source) return;
            if (mine.readyState === EventSource.CLOSED) {
                stop();
                say("The stream ended: the queue may be gone.");
            } else {
                say("Reconnecting…");
            }
        });
    }

    function stop() {
        if (source) source.close();
        source = null;
        setText(button, "Start");
        from.disabled = false;
        count();
    }

    button.addEventListener("click", () => (source ? stop() : start()));
    clear.addEventListener("click", () => {
        seen = 0;
        pending = [];
        empty();
        count();
    });
    empty();
    start();
    return {
        element: h(
            "div",
            null,
            h("div", { class: "row-form" }, h("div", { class: "field" }, h("label", { for: "tail-from" }, "Follow"), Object.assign(from, { id: "tail-from" })), button, clear),
            state,
            list,
        ),
        leave() {
            if (source) source.close();
            source = null;
            cancelAnimationFrame(frame);
        },
    };
}
