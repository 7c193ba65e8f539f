/* Numbers, times and sizes for people, and back. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export function count(n) {
    if (n === null || n === undefined) return "–";
    if (n >= 1e9) return short.format(n / 1e9) + " G";
    if (n >= 1e7) return short.format(n / 1e6) + " M";
    return whole.format(n);
}

export function plural(n, one, many = one + "s") {
    return `${whole.format(n)} ${n === 1 ? one : many}`;
}

export function rate(n) {
    if (n === null || n === undefined) return "–";
    if (n >= 1e6) return short.format(n / 1e6) + " M";
    if (n >= 100) return whole.format(n);
    if (n > 0 && n < 0.05) return "< 0.1";
    return short.format(Math.round(n * 10) / 10);
}

export function bytes(n) {
    if (n === null || n === undefined) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let u = 0;
    while (n >= 1000 && u < units.length - 1) {
        n /= 1024;
        u++;
    }
    return `${u === 0 ? whole.format(n) : short.format(n)} ${units[u]}`;
}

/* A length of time in ms: "850 ms", "12 s", "3 min 20 s", "5 h 2 min", "3 d 4 h". */
export function duration(ms) {
    if (ms === null || ms === undefined) return "–";
    if (ms < 1000) return `${Math.round(ms)} ms`;
    const s = Math.round(ms / 1000);
    if (s < 60) return `${s} s`;
    const parts = [
        [Math.floor(s / 86400), "d"],
        [Math.floor(s / 3600) % 24, "h"],
        [Math.floor(s / 60) % 60, "min"],
        [s % 60, "s"],
    ];
    const first = parts.findIndex(([n]) => n > 0);
    return parts
        .slice(first, first + 2)
        .filter(([n]) => n > 0)
        .map(([n, unit]) => `${n} ${unit}`)
        .join(" ");
}

export function micros(us) {
    if (us === null || us === undefined) return "–";
    if (us < 1000) return `${Math.round(us)} µs`;
    if (us < 1e6) return `${short.format(us / 1000)} ms`;
    return `${short.format(us / 1e6)} s`;
}

/* A moment in ms since 1970, local time, to the millisecond. */
export function moment(ms) {
    if (!ms) return "–";
    const d = new Date(ms);
    const two = (n) => String(n).padStart(2, "0");
    return (
        `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ` +
        `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, "0")}`
    );
}

export function ago(ms) {
    const past = Date.now() - ms;
    if (Math.abs(past) < 1000) return "now";
    return past >= 0 ? `${duration(past)} ago` : `in ${duration(-past)}`;
}

/* ---- what people type ---------------------------------------------------------------------------------------------- */

const TIMES = [["d", 86400000], ["h", 3600000], ["min", 60000], ["s", 1000], ["ms", 1]];
const SIZES = [["GiB", 1 << 30], ["MiB", 1 << 20], ["KiB", 1 << 10], ["", 1]];

/* The shortest text that means exactly n: 90000 -> "90s". */
function exact(n, units) {
    if (!n) return "0";
    const [unit, size] = units.find(([, s]) => n % s === 0);
    return `${n / size}${unit}`;
}

/* A number, or what was typed if it is none: the broker then says what it thinks of it. */
function parsed(text, units, one) {
    const m = /^\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*$/.exec(text);
    if (!m) return text;
    const unit = m[2] ? units.find(([u]) => u.toLowerCase() === m[2].toLowerCase()) : ["", one];
    return unit ? Math.round(Number(m[1]) * unit[1]) : text;
}

export const durationText = (ms) => exact(ms, TIMES);
export const durationValue = (text) => parsed(text, [...TIMES, ["m", 60000]], 1);
export const bytesText = (n) => exact(n, SIZES);
export const bytesValue = (text) => parsed(text, [...SIZES, ["k", 1 << 10], ["m", 1 << 20], ["g", 1 << 30], ["b", 1]], 1);
export const countValue = (text) => (/^\s*\d+\s*$/.test(text) ? Number(text) : text);
