/*
 * Elements. What a message, a name or an error holds gets into the page as text only: there is no way from here to markup,
 * and no style attribute, which the page's policy forbids.
 */

const SVG = "http://www.w3.org/2000/svg";

/* h("a", {class: "x", href: "#/", onclick: f}, "text", [more], null): an element with attributes and children.
   A property that begins with "on" is a listener; true is an empty attribute; false, null and undefined are none. */
export function h(tag, props, ...children) {
    return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
    return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
    for (const [name, value] of Object.entries(props || {})) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (name === "value") element.value = value;
        else if (value === true) element.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    append(element, children);
    return element;
}

function append(element, children) {
    for (const child of children) {
        if (Array.isArray(child)) append(element, child);
        else if (child !== null && child !== undefined && child !== false) element.append(child);
    }
}

/* Set an element's text if it is another one: an untouched node costs no layout and keeps a selection. */
export function setText(element, text) {
    const s = String(text);
    if (element.textContent !== s) element.textContent = s;
}

export function setAttr(element, name, value) {
    if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

export function replace(element, ...children) {
    element.replaceChildren();
    append(element, children);
}

let counter = 0;
export function uniqueId(prefix) {
    return `${prefix}-${++counter}`;
}

/* A labelled control: label above, help below, both tied to it. */
export function field(label, control, help) {
    control.id ||= uniqueId("f");
    const hint = help ? h("p", { class: "help", id: `${control.id}-help` }, help) : null;
    if (hint) control.setAttribute("aria-describedby", hint.id);
    return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint);
}

export function check(label, control, help) {
    control.id ||= uniqueId("f");
    const hint = help ? h("p", { class: "help", id: `${control.id}-help` }, help) : null;
    if (hint) control.setAttribute("aria-describedby", hint.id);
    return h("div", { class: "field check" }, h("div", { class: "check-line" }, control, h("label", { for: control.id }, label)), hint);
}

export function select(options, value, props) {
    const list = h("select", props, options.map(([v, text]) => h("option", { value: v }, text)));
    list.value = value;
    return list;
}

/* A line that says how something went; screen readers hear it. */
export function statusLine() {
    const line = h("p", { class: "outcome", role: "status" });
    return {
        element: line,
        say(text, kind = "") {
            line.dataset.kind = kind;
            setText(line, text);
        },
    };
}

/* A short note at the page's edge, for what happened to something that is not on the page any more. */
export function toast(text, kind = "") {
    const note = h("p", { class: "toast", "data-kind": kind }, text);
    document.getElementById("toasts").append(note);
    setTimeout(() => note.remove(), 6000);
}
