/* A series of numbers as a small line, newest at the right. It says nothing that does not stand beside it in digits. */

import { svg } from "./dom.js";

const WIDTH = 120, HEIGHT = 28, POINTS = 60;

export class Sparkline {
    constructor(label) {
        this.area = svg("path", { class: "spark-area" });
        this.line = svg("path", { class: "spark-line" });
        this.element = svg(
            "svg",
            { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
            svg("title", null, label),
            this.area,
            this.line,
        );
    }

    /* series: numbers, oldest first; of a longer one the newest count. The scale begins at 0. */
    draw(series) {
        const values = series.slice(-POINTS);
        if (values.length === 1) values.unshift(values[0]);
        const top = Math.max(...values, 0) || 1;
        const step = WIDTH / (POINTS - 1);
        const left = WIDTH - (values.length - 1) * step;
        const points = values.map((v, i) => `${(left + i * step).toFixed(1)} ${(HEIGHT - 2 - (v / top) * (HEIGHT - 5)).toFixed(1)}`);
        const line = points.length ? `M${points.join("L")}` : "";
        if (line === this.drawn) return;
        this.drawn = line;
        this.element.classList.toggle("flat", !values.some((v) => v > 0));
        this.line.setAttribute("d", line);
        this.area.setAttribute("d", line && `${line}L${WIDTH} ${HEIGHT}L${left.toFixed(1)} ${HEIGHT}Z`);
    }
}
