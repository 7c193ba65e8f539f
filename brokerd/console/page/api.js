/* Requests to the broker. Whatever goes wrong is a Problem, whose message is a sentence for people: the broker's own. */

export class Problem extends Error {
    constructor(status, body) {
        super(body.detail || body.title || `The broker answered ${status}.`);
        this.status = status; /* 0: there was no answer */
        this.code = body.code || "";
        this.body = body;
    }
}

const kinds = /^application\/(problem\+)?json/;

/* send("PATCH", "/v1/queues/q", {json: {...}, query: {max: 5}}): the answer's JSON; null if it has none. */
export async function send(method, path, { json, query, signal } = {}) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query || {})) {
        if (value !== "" && value !== null && value !== undefined) search.append(name, value);
    }
    const url = search.size ? `${path}?${search}` : path;
    const options = { method, signal, headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };
    if (json !== undefined) {
        options.headers["Content-Type"] = "application/json";
        options.body = JSON.stringify(json);
    }
    let response, body;
    try {
        response = await fetch(url, options);
        body = kinds.test(response.headers.get("Content-Type") || "") ? await response.json() : null;
    } catch (e) {
        if (e.name === "AbortError") throw e;
        throw new Problem(0, { detail: "The broker does not answer. Is it running?" });
    }
    if (!response.ok) throw new Problem(response.status, body || {});
    return body;
}

export const get = (path, query, signal) => send("GET", path, { query, signal });

/* The path of a queue, or of something below it: at("orders", "groups", "mail"). */
export function at(queue, ...rest) {
    return ["/v1/queues", queue, ...rest].map((s, i) => (i ? encodeURIComponent(s) : s)).join("/");
}
