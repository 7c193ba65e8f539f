/*
 * Dialogs: the browser's own modal <dialog>, which keeps the focus inside, closes on Escape and gives the focus back. The
 * work is done while the dialog is open, so that an error stands where its cause can be corrected.
 */

import { h, setAttr, statusLine, uniqueId } from "./dom.js";

/*
 * openDialog({title, content, label, danger, submit, ready}): shows `content` (elements) with a button `label` and Cancel. Enter
 * and the button call submit(), which may throw a Problem: it is shown, and the dialog stays. Resolves to what submit
 * returned, or to undefined if the dialog was cancelled. ready(): may it be submitted now? Asked at each input.
 */
export function openDialog({ title, content, label, danger = false, submit, ready = () => true }) {
    return new Promise((resolve) => {
        const id = uniqueId("dialog");
        const outcome = statusLine();
        const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
        const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
        const form = h(
            "form",
            { novalidate: true },
            h("h2", { id }, title),
            h("div", { class: "dialog-body" }, content),
            outcome.element,
            h("div", { class: "actions end" }, cancel, go),
        );
        const dialog = h("dialog", { "aria-labelledby": id }, form);
        let result;

        const look = () => setAttr(go, "disabled", !ready());
        form.addEventListener("input", look);
        form.addEventListener("submit", async (e) => {
            e.preventDefault();
            if (go.disabled) return;
            go.disabled = true;
            outcome.say("Working…");
            try {
                result = await submit();
                dialog.close();
            } catch (problem) {
                outcome.say(problem.message, "bad");
                look();
            }
        });
        dialog.addEventListener("close", () => {
            dialog.remove();
            resolve(result);
        });
        /* A click beside it closes it, as Escape does. */
        dialog.addEventListener("click", (e) => e.target === dialog && dialog.close());
        look();
        document.body.append(dialog);
        dialog.showModal();
        (form.querySelector("[autofocus], input:not([type=checkbox]), select, textarea") || cancel).focus();
    });
}

/* Asks before something that cannot be taken back; resolves to true when it was done. */
export async function confirmDialog({ title, text, label, submit }) {
    const done = await openDialog({
        title,
        content: [text].flat().map((t) => (typeof t === "string" ? h("p", null, t) : t)),
        label,
        danger: true,
        submit: async () => {
            await submit();
            return true;
        },
    });
    return done === true;
}
