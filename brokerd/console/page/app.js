/* Where it begins: the header, the address after the '#', and which view is shown for it. */

import { h, replace, setAttr, setText } from "./dom.js";
import { bytes, duration } from "./format.js";
import { overview } from "./overview.js";
import { queuePage } from "./queue.js";
import { onStats, start, stats } from "./stats.js";

const main = document.getElementById("main");
let view = null; /* {element, title, key, update?(), go?(tab), leave?()} */

/* ---- the address ------------------------------------------------------------------------------------------------------ */

/* "#/queues/NAME/TAB" -> {queue, tab}; anything else is the overview. */
function address() {
    const [, what, name, tab] = location.hash.replace(/^#/, "").split("/");
    if (what !== "queues" || !name) return { queue: "", tab: "" };
    try {
        return { queue: decodeURIComponent(name), tab: tab || "" };
    } catch (e) {
        return { queue: name, tab: tab || "" };
    }
}

function route(first) {
    const { queue, tab } = address();
    const key = queue ? `queue ${queue}` : "overview";
    if (view && view.key === key && view.go) {
        view.go(tab); /* another tab of the same page */
        return;
    }
    if (view && view.leave) view.leave();
    view = queue ? queuePage(queue, tab) : overview();
    view.key = key;
    document.title = `${view.title} – brokerd`;
    replace(main, view.element);
    /* A new page: screen readers begin at its heading. At the first load the browser's own order counts. */
    if (!first) {
        scrollTo(0, 0);
        const heading = main.querySelector("h1");
        if (heading) {
            heading.tabIndex = -1;
            heading.focus({ preventScroll: true });
        }
    }
}

/* ---- the header ------------------------------------------------------------------------------------------------------- */

const WORDS = { connecting: "connecting", live: "live", reconnecting: "reconnecting", paused: "paused" };

function header() {
    const live = document.getElementById("live");
    setAttr(live, "data-state", stats.state);
    setText(document.getElementById("live-text"), WORDS[stats.state]);
    const b = stats.broker;
    if (b) {
        const parts = [`brokerd ${b.version}`, `up ${duration(b.uptime_ms)}`, `log ${bytes(b.disk_bytes)}`];
        setText(document.getElementById("foot-text"), parts.join(" · "));
    }
}

const THEMES = { auto: "dark", dark: "light", light: "auto" };

function theme() {
    const button = document.getElementById("theme");
    const show = () => setText(button, `Theme: ${document.documentElement.dataset.theme || "auto"}`);
    button.addEventListener("click", () => {
        const next = THEMES[document.documentElement.dataset.theme || "auto"];
        if (next === "auto") delete document.documentElement.dataset.theme;
        else document.documentElement.dataset.theme = next;
        try {
            if (next === "auto") localStorage.removeItem("brokerd.theme");
            else localStorage.setItem("brokerd.theme", next);
        } catch (e) {
            /* storage is forbidden: then it lasts until the page is left */
        }
        show();
    });
    show();
}

/* A skip link's own target would be an address of this page's views: so it moves the focus by hand. */
document.getElementById("skip").addEventListener("click", (e) => {
    e.preventDefault();
    main.focus();
});

replace(
    document.getElementById("foot"),
    h("span", { id: "foot-text" }),
    h("span", { class: "links" }, h("a", { href: "/v1/openapi.json" }, "OpenAPI"), h("a", { href: "/metrics" }, "Metrics"), h("a", { href: "/v1/stats" }, "Statistics")),
);
theme();
onStats(() => {
    header();
    if (view && view.update && !document.hidden) view.update();
});
addEventListener("hashchange", () => route(false));
route(true);
start();
