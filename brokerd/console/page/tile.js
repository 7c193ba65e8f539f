/* A tile: one figure. */

import { h, setAttr, setText } from "./dom.js";
import { Sparkline } from "./sparkline.js";

/* A figure with its name above, and below what explains it. The value is text; with a series there is a line as well. */
export function tile(label, series) {
    const value = h("dd", { class: "value" }, "–");
    const note = h("dd", { class: "note" });
    const spark = series ? new Sparkline(label) : null;
    return {
        element: h("div", { class: "tile" }, h("dt", null, label), value, note, spark && h("dd", { class: "tile-spark" }, spark.element)),
        show(text, more = "", kind = "") {
            setText(value, text);
            setText(note, more);
            setAttr(value, "data-kind", kind || null);
            if (spark) spark.draw(series());
        },
    };
}
