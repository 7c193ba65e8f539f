/* A queue's dead letters: why each is there, and the way back. */

import { at, get, send } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, replace, setText, toast } from "./dom.js";
import { plural } from "./format.js";
import { messageList } from "./messages.js";
import { messageItem } from "./message.js";

const REASONS = { max_attempts: "out of attempts", rejected: "rejected", expired: "expired" };

export function deadTab(queue) {
    const chosen = new Set(); /* seqs in the dead letters' queue */
    const intro = h("p", { class: "muted" });
    const redriveSome = h("button", { type: "button", disabled: true }, "Redrive selected…");
    const redriveAll = h("button", { type: "button" }, "Redrive all…");

    const messages = messageList({
        label: "Dead letters",
        page,
        item,
        empty: () => [h("p", { class: "lead" }, "No dead letters."), h("p", null, "What is rejected, or comes back from its last attempt, stands here with the reason.")],
    });

    async function page(from) {
        if (!from) {
            chosen.clear();
            look();
            const { queue: settings } = await get(at(queue));
            const place = settings.dead_letter || `${queue}.dead`;
            replace(intro, "They lie in the queue ", h("a", { href: `#/queues/${encodeURIComponent(place)}` }, place), "; redriven they are published to where they came from, anew.");
        }
        return get(at(queue, "dead"), { from: from || "", max: 50 });
    }

    function item(m) {
        const head = m.headers || {};
        const box = h("input", { type: "checkbox", "aria-label": `Select dead letter ${m.seq}` });
        box.addEventListener("change", () => {
            if (box.checked) chosen.add(m.seq);
            else chosen.delete(m.seq);
            look();
        });
        const tags = [
            REASONS[head["dead-reason"]] || head["dead-reason"],
            head["dead-attempts"] && `after ${plural(Number(head["dead-attempts"]), "attempt")}`,
            head["dead-group"] && head["dead-group"] !== "default" && `group ${head["dead-group"]}`,
        ].filter(Boolean);
        return messageItem(m, { tags, before: box });
    }

    function look() {
        redriveSome.disabled = chosen.size === 0;
        setText(redriveSome, chosen.size ? `Redrive ${chosen.size} selected…` : "Redrive selected…");
    }

    /* ranges of seqs that together are what is to go back. They are counted before anything is done. */
    async function redrive(title, ranges) {
        const sum = async (dry) => {
            const total = { matched: 0, skipped: 0 };
            for (const range of ranges) {
                const query = { all: true, dry_run: dry || "" };
                const part = await send("POST", at(queue, "dead", "redrive"), { json: range, query });
                total.matched += part.matched;
                total.skipped += part.skipped;
            }
            return total;
        };
        let found;
        try {
            found = await sum(true);
        } catch (problem) {
            messages.say(problem.message, "bad");
            return;
        }
        if (!found.matched) {
            messages.say("There is nothing to redrive.");
            return;
        }
        const done = await openDialog({
            title,
            content: [
                h("p", null, `${plural(found.matched, "dead letter")} will be published to ${queue} again, with attempts from 1 on.`),
                h("p", { class: "muted" }, "What a consumer of the dead letters holds at this moment is passed over."),
            ],
            label: `Redrive ${found.matched}`,
            submit: () => sum(false),
        });
        if (!done) return;
        toast(`${plural(done.matched, "message")} went back${done.skipped ? `; ${done.skipped} passed over` : ""}.`, done.skipped ? "" : "good");
        messages.load();
    }

    redriveSome.addEventListener("click", () =>
        redrive("Redrive the selected ones?", [...chosen].sort((a, b) => a - b).map((seq) => ({ from_seq: seq, to_seq: seq }))),
    );
    redriveAll.addEventListener("click", () => redrive("Redrive all of them?", [{}]));

    messages.load();
    return {
        element: h(
            "div",
            null,
            intro,
            h("div", { class: "actions" }, redriveAll, redriveSome, h("button", { type: "button", onclick: messages.load }, "Look again")),
            messages.element,
        ),
    };
}

