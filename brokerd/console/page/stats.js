/*
 * The statistics stream: one EventSource for the whole page. Views read `stats` and are called when it has changed.
 *
 * An event "stats" holds everything the first time, and then the queues that changed and the names of those that are gone;
 * an event "queue" is the description of the queue that is looked at, when that has changed. Histories for the sparklines are kept here, from the
 * page's loading on: one point an event, whatever view is open.
 */

const HISTORY = 60; /* points */
const SILENCE_MS = 15000; /* a stream that says nothing for so long is opened again: it sends about once a second */
const RETRY_MS = 2000;
const HIDDEN_MS = 60000; /* a hidden page lets go of its connection after this; browsers allow only six to a broker */

export const stats = {
    state: "connecting", /* connecting, live, reconnecting, paused */
    at: 0, /* Date.now() of the last event */
    fresh: false, /* what is told is what was asked for last: false until the first event of a new stream */
    broker: null,
    queues: new Map(), /* name -> figures; insertion order means nothing */
    more: false, /* there are more queues with this prefix than are told */
    selected: null, /* {queue, groups, …} of the queue that is looked at */
    limit: 200,
};

const histories = new Map(); /* name -> {in: [], out: [], ready: []}; "" is the broker */
const listeners = new Set();
let wanted = { prefix: "", queue: "" };
let source = null;
let again = 0;
let hidden = 0;

/* fn() after each event and each change of state; returns what ends it. */
export function onStats(fn) {
    listeners.add(fn);
    return () => listeners.delete(fn);
}

export function history(name) {
    let h = histories.get(name);
    if (!h) histories.set(name, (h = { in: [], out: [], ready: [] }));
    return h;
}

/* What the stream is to tell: queues whose names begin with `prefix`, and the queue `queue` in full. */
export function watch({ prefix = "", queue = "" }) {
    if (prefix === wanted.prefix && queue === wanted.queue) return;
    if (queue !== wanted.queue) stats.selected = null;
    wanted = { prefix, queue };
    open();
}

export function start() {
    document.addEventListener("visibilitychange", () => {
        clearTimeout(hidden);
        if (document.hidden) hidden = setTimeout(pause, HIDDEN_MS);
        else if (stats.state === "paused") open();
    });
    /* Leaving the page for the back button's cache: a kept stream would hold its connection. */
    addEventListener("pagehide", pause);
    addEventListener("pageshow", (e) => e.persisted && open());
    setInterval(() => {
        if (stats.state !== "live" || Date.now() - stats.at < SILENCE_MS) return;
        become("reconnecting");
        open();
    }, 1000);
    open();
}

function url() {
    const query = new URLSearchParams({ limit: stats.limit });
    /* A queue's page needs the queue's own line, wherever it stands in the list. */
    if (wanted.queue) query.set("queue", wanted.queue);
    const prefix = wanted.queue || wanted.prefix;
    if (prefix) query.set("queues", prefix);
    return `/v1/stats/events?${query}`;
}

function close() {
    clearTimeout(again);
    if (source) source.close();
    source = null;
}

function pause() {
    close();
    become("paused");
}

function open() {
    close();
    stats.fresh = false;
    if (stats.state === "paused") become("reconnecting");
    const mine = (source = new EventSource(url()));
    mine.addEventListener("stats", (e) => mine === source && take(JSON.parse(e.data)));
    mine.addEventListener("queue", (e) => {
        if (mine !== source) return;
        stats.selected = JSON.parse(e.data);
        tell();
    });
    mine.addEventListener("error", () => {
        if (mine !== source) return;
        stats.fresh = false;
        become(stats.at ? "reconnecting" : "connecting");
        /* Broken connections the browser opens again by itself, but not after an answer that is no stream. */
        if (mine.readyState === EventSource.CLOSED) again = setTimeout(open, RETRY_MS);
    });
}

function take(event) {
    stats.at = Date.now();
    stats.broker = event.broker;
    stats.more = event.more;
    if (event.full) stats.queues.clear();
    for (const q of event.queues || []) stats.queues.set(q.name, q);
    for (const name of event.removed || []) stats.queues.delete(name);
    record();
    stats.state = "live";
    stats.fresh = true;
    tell();
}

function push(series, value) {
    series.push(value || 0);
    if (series.length > HISTORY) series.shift();
}

function record() {
    const all = history("");
    push(all.in, stats.broker.publish_rate);
    push(all.out, stats.broker.deliver_rate);
    for (const [name, q] of stats.queues) {
        const h = history(name);
        push(h.in, q.in_rate);
        push(h.out, q.out_rate);
        push(h.ready, q.ready);
    }
    /* Of queues that are not told any more nothing is kept beyond what one view shows. */
    if (histories.size > 4 * stats.limit) {
        for (const name of histories.keys()) if (name && !stats.queues.has(name)) histories.delete(name);
    }
}

function become(state) {
    if (stats.state === state) return;
    stats.state = state;
    tell();
}

function tell() {
    for (const fn of [...listeners]) fn();
}
