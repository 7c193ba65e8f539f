/*
 * Which queues a topic leads to: a trie over the tokens of the patterns, as in NATS's sublist.
 *
 * Every node stands for a beginning of patterns. A child is found by its parent and token in one table for all (a table
 * for each node would cost more than all the rest), '*' has a place of its own. `here` are the queues bound with the pattern
 * that ends at the node, `rest` those whose pattern goes on with '>'. A topic walks only nodes whose tokens match its own, so
 * a look-up costs what matches, whatever else is bound.
 */
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

struct queue_list { /* rising by id, distinct */
    struct queue **queues;
    uint32_t count, cap;
};

struct node {
    struct node *parent, *any; /* any: the child '*', which is not in the table */
    uint32_t children;         /* in the table */
    struct queue_list here, rest;
    UT_hash_handle hh; /* topics->nodes, but not the root and the '*' */
    uint16_t key_len;
    char key[]; /* struct node *parent, token */
};

enum { KEY_MAX = sizeof(struct node *) + TOPIC_MAX_BYTES };

struct topics {
    struct node *root;
    struct node *nodes;
    struct queue **found; /* of the last match */
    uint32_t found_count, found_cap;
};

/* ---- lists of queues ------------------------------------------------------------------------------------------------- */

static uint32_t list_at_or_after(const struct queue_list *l, uint32_t id)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->queues[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool list_has(const struct queue_list *l, const struct queue *q)
{
    uint32_t i = list_at_or_after(l, q->id);
    return i < l->count && l->queues[i] == q;
}

static bool list_add(struct queue_list *l, struct queue *q)
{
    if (l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 1;
        struct queue **queues = realloc(l->queues, cap * sizeof(struct queue *));
        if (!queues) {
            return false;
        }
        l->queues = queues;
        l->cap = cap;
    }
    uint32_t i = list_at_or_after(l, q->id);
    memmove(&l->queues[i + 1], &l->queues[i], (l->count - i) * sizeof(struct queue *));
    l->queues[i] = q;
    l->count++;
    return true;
}

static void list_remove(struct queue_list *l, const struct queue *q)
{
    uint32_t i = list_at_or_after(l, q->id);
    if (i < l->count && l->queues[i] == q) {
        l->count--;
        memmove(&l->queues[i], &l->queues[i + 1], (l->count - i) * sizeof(struct queue *));
    }
    if (!l->count) {
        free(l->queues);
        *l = (struct queue_list){0};
    }
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */

static size_t key_of(const struct node *parent, const char *token, size_t len, char key[KEY_MAX])
{
    memcpy(key, &parent, sizeof parent);
    memcpy(key + sizeof parent, token, len);
    return sizeof parent + len;
}

static struct node *node_child(const struct topics *t, const struct node *n, const char *token, size_t len)
{
    char key[KEY_MAX];
    struct node *child = NULL;
    if (n->children) {
        HASH_FIND(hh, t->nodes, key, key_of(n, token, len, key), child);
    }
    return child;
}

static bool is_any(const char *token, size_t len)
{
    return len == 1 && token[0] == '*';
}

static struct node *node_make_child(struct topics *t, struct node *n, const char *token, size_t len)
{
    bool any = is_any(token, len);
    struct node *child = any ? n->any : node_child(t, n, token, len);
    if (child) {
        return child;
    }
    child = calloc(1, sizeof *child + sizeof n + len);
    if (!child) {
        return NULL;
    }
    child->parent = n;
    if (any) {
        n->any = child;
        return child;
    }
    child->key_len = (uint16_t)key_of(n, token, len, child->key);
    HASH_ADD_KEYPTR(hh, t->nodes, child->key, child->key_len, child);
    if (!child->hh.tbl) {
        free(child);
        return NULL;
    }
    n->children++;
    return child;
}

/* Free n, and those above it, as far as nothing hangs on them. */
static void node_prune(struct topics *t, struct node *n)
{
    while (n->parent && !n->children && !n->any && !n->here.count && !n->rest.count) {
        struct node *parent = n->parent;
        if (parent->any == n) {
            parent->any = NULL;
        } else {
            HASH_DEL(t->nodes, n);
            parent->children--;
        }
        free(n);
        n = parent;
    }
}

static size_t token_at(const char *topic, size_t len, size_t at)
{
    const char *dot = memchr(topic + at, '.', len - at);
    return dot ? (size_t)(dot - topic) - at : len - at;
}

/* The list in which a pattern's queues stand; *end: its node. With `make`, nodes that are missing are made. NULL: it is not
   there, or no memory; *end is the last node on the way then. */
static struct queue_list *walk(struct topics *t, const char *pattern, size_t len, bool make, struct node **end)
{
    *end = t->root;
    for (size_t at = 0; at <= len;) {
        size_t n = token_at(pattern, len, at);
        if (n == 1 && pattern[at] == '>') {
            return &(*end)->rest;
        }
        bool any = !make && is_any(pattern + at, n);
        struct node *next = make  ? node_make_child(t, *end, pattern + at, n)
                            : any ? (*end)->any
                                  : node_child(t, *end, pattern + at, n);
        if (!next) {
            return NULL;
        }
        *end = next;
        at += n + 1;
    }
    return &(*end)->here;
}

struct topics *topics_new(void)
{
    struct topics *t = calloc(1, sizeof *t);
    if (t && !(t->root = calloc(1, sizeof *t->root))) {
        free(t);
        return NULL;
    }
    return t;
}

void topics_free(struct topics *t)
{
    if (t) {
        assert(!t->nodes && !t->root->any); /* the queues went before, and their bindings with them */
        free(t->root->here.queues);
        free(t->root->rest.queues);
        free(t->root);
        free(t->found);
        free(t);
    }
}

/* ---- bindings ---------------------------------------------------------------------------------------------------------- */

static struct binding *binding_find(const struct queue *q, const char *pattern, size_t len)
{
    struct binding *b;
    LIST_FOREACH(b, &q->bindings, of_queue)
    {
        if (strlen(b->pattern) == len && memcmp(b->pattern, pattern, len) == 0) {
            return b;
        }
    }
    return NULL;
}

bool topics_has(const struct queue *q, const char *pattern, size_t len)
{
    return binding_find(q, pattern, len) != NULL;
}

bool topics_bind(struct engine *e, struct queue *q, const char *pattern, size_t len)
{
    struct node *end;
    struct queue_list *l = walk(e->topics, pattern, len, true, &end);
    if (l && list_has(l, q)) {
        return true;
    }
    struct binding *b = l ? malloc(sizeof *b + len + 1) : NULL;
    if (!b || !list_add(l, q)) {
        free(b);
        node_prune(e->topics, end);
        return false;
    }
    memcpy(b->pattern, pattern, len);
    b->pattern[len] = 0;
    LIST_INSERT_HEAD(&q->bindings, b, of_queue);
    q->binding_count++;
    return true;
}

static void unbind(struct engine *e, struct queue *q, struct binding *b)
{
    struct node *end;
    struct queue_list *l = walk(e->topics, b->pattern, strlen(b->pattern), false, &end);
    assert(l && list_has(l, q));
    list_remove(l, q);
    node_prune(e->topics, end);
    LIST_REMOVE(b, of_queue);
    q->binding_count--;
    free(b);
}

void topics_unbind(struct engine *e, struct queue *q, const char *pattern, size_t len)
{
    struct binding *b = binding_find(q, pattern, len);
    if (b) {
        unbind(e, q, b);
    }
}

void topics_forget_queue(struct engine *e, struct queue *q)
{
    struct binding *b;
    while ((b = LIST_FIRST(&q->bindings))) {
        unbind(e, q, b);
    }
}

/* ---- matching ---------------------------------------------------------------------------------------------------------- */

static bool take_list(struct topics *t, const struct queue_list *l)
{
    if (l->count > t->found_cap - t->found_count) {
        uint32_t cap = t->found_count + l->count + t->found_cap;
        struct queue **found = realloc(t->found, cap * sizeof(struct queue *));
        if (!found) {
            return false;
        }
        t->found = found;
        t->found_cap = cap;
    }
    if (l->count) {
        memcpy(t->found + t->found_count, l->queues, l->count * sizeof(struct queue *));
        t->found_count += l->count;
    }
    return true;
}

/* The rest of the topic from `at`, below n. As deep as the topic has tokens. */
static bool match(struct topics *t, const struct node *n, const char *topic, size_t len, size_t at)
{
    if (at > len) {
        return take_list(t, &n->here);
    }
    size_t token = token_at(topic, len, at);
    const struct node *child = node_child(t, n, topic + at, token);
    return take_list(t, &n->rest) && (!child || match(t, child, topic, len, at + token + 1)) &&
           (!n->any || match(t, n->any, topic, len, at + token + 1));
}

static int by_queue_id(const void *a, const void *b)
{
    uint32_t x = (*(struct queue *const *)a)->id, y = (*(struct queue *const *)b)->id;
    return (x > y) - (x < y);
}

bool topics_match(struct engine *e, const char *topic, size_t len, struct queue *const **queues, uint32_t *count)
{
    struct topics *t = e->topics;
    t->found_count = 0;
    *queues = NULL;
    *count = 0;
    if (!match(t, t->root, topic, len, 0)) {
        return false;
    }
    bool rising = true;
    for (uint32_t i = 1; i < t->found_count; i++) {
        rising = rising && t->found[i - 1]->id < t->found[i]->id;
    }
    if (!rising) { /* of several lists: in order, and each queue once */
        qsort(t->found, t->found_count, sizeof(struct queue *), by_queue_id);
        uint32_t kept = 1;
        for (uint32_t i = 1; i < t->found_count; i++) {
            if (t->found[i] != t->found[kept - 1]) {
                t->found[kept++] = t->found[i];
            }
        }
        t->found_count = kept;
    }
    *queues = t->found;
    *count = t->found_count;
    return true;
}

/* ---- commands and what survives ---------------------------------------------------------------------------------------- */

enum { BIND_HEAD_BYTES = 8 };

static void answer_synced(struct engine *e, const struct command *c, uint64_t index)
{
    pending_push(e, DURABILITY_SYNCED, &(struct pending){.index = index, .token = c->token, .type = c->type});
}

static broker_error append_bind(struct engine *e, const struct queue *q, bool bind, struct name pattern,
                                uint64_t *index)
{
    uint8_t body[BIND_HEAD_BYTES + TOPIC_MAX_BYTES] = {bind};
    memcpy(body + BIND_HEAD_BYTES, pattern.bytes, pattern.len);
    return engine_append(e, RECORD_BIND, q->id, 0, body, BIND_HEAD_BYTES + pattern.len, DURABILITY_SYNCED, index);
}

static bool may_bind(struct engine *e, const struct command *c, const struct queue *q)
{
    struct name pattern = c->u.bind.pattern;
    uint32_t max = e->options.max_bindings_per_queue ? e->options.max_bindings_per_queue : DEFAULT_MAX_BINDINGS;
    if (!topic_pattern_is_valid(pattern.bytes, pattern.len)) {
        engine_fail(e, c, BROKER_INVALID_ARGUMENT, 0,
                    "'%.*s' is no pattern for topics: 1 to 255 bytes, up to 32 tokens of A-Z a-z 0-9 _ - or '*' with "
                    "dots between, at the end '>' for the rest",
                    pattern.len > 64 ? 64 : (int)pattern.len, pattern.len ? pattern.bytes : "");
        return false;
    }
    if (c->type == COMMAND_BIND && q->binding_count >= max && !topics_has(q, pattern.bytes, pattern.len)) {
        engine_fail(e, c, BROKER_LIMIT_REACHED, 0,
                    "queue '%s' has %u bindings, the most that are allowed: bind a pattern that covers several, or "
                    "unbind one",
                    q->name, q->binding_count);
        return false;
    }
    return true;
}

void bind_or_unbind(struct engine *e, const struct command *c)
{
    struct queue *q = queue_of(e, c);
    if (!q || !may_bind(e, c, q)) {
        return;
    }
    struct name pattern = c->u.bind.pattern;
    bool bind = c->type == COMMAND_BIND;
    if (!pending_reserve(&e->synced)) {
        engine_append_failed(e, c, BROKER_NO_MEMORY);
        return;
    }
    queue_used(e, q);
    if (bind == topics_has(q, pattern.bytes, pattern.len)) { /* it is so: say it once that is durable */
        answer_synced(e, c, q->settings_index);
        pending_release(e);
        return;
    }
    uint64_t index;
    broker_error error = BROKER_NO_MEMORY;
    if (!bind || topics_bind(e, q, pattern.bytes, pattern.len)) {
        error = append_bind(e, q, bind, pattern, &index);
        bool undo = bind && error, unbound = !bind && !error;
        if (undo || unbound) {
            topics_unbind(e, q, pattern.bytes, pattern.len);
        }
    }
    if (error) {
        engine_append_failed(e, c, error);
        return;
    }
    q->settings_index = index;
    answer_synced(e, c, index);
}

broker_error bind_replay(struct engine *e, struct queue *q, const uint8_t *body, size_t len, const char **text)
{
    const char *pattern = (const char *)body + BIND_HEAD_BYTES;
    if (len < BIND_HEAD_BYTES || body[0] > 1 || !topic_pattern_is_valid(pattern, len - BIND_HEAD_BYTES)) {
        *text = "a binding is malformed";
        return BROKER_MALFORMED;
    }
    if (!body[0]) {
        topics_unbind(e, q, pattern, len - BIND_HEAD_BYTES);
    } else if (!topics_bind(e, q, pattern, len - BIND_HEAD_BYTES)) {
        *text = "out of memory";
        return BROKER_NO_MEMORY;
    }
    return BROKER_OK;
}

bool bindings_save(const struct queue *q, struct buf *out)
{
    bool ok = buf_put_u32(out, q->binding_count);
    const struct binding *b;
    LIST_FOREACH(b, &q->bindings, of_queue)
    {
        size_t len = strlen(b->pattern);
        ok = ok && buf_put_u32(out, (uint32_t)len) && buf_append(out, b->pattern, len);
    }
    return ok;
}

bool bindings_load(struct engine *e, struct queue *q, struct reader *r)
{
    uint32_t count = reader_u32(r);
    for (uint32_t i = 0; i < count && !r->error; i++) {
        uint32_t len = reader_u32(r);
        const char *pattern = (const char *)reader_bytes(r, len);
        if (!pattern || !topic_pattern_is_valid(pattern, len)) {
            return reader_refuse(r, BROKER_MALFORMED, "a queue's binding is malformed");
        }
        if (!topics_bind(e, q, pattern, len)) {
            return reader_refuse(r, BROKER_NO_MEMORY, "out of memory");
        }
        if (q->binding_count != i + 1) {
            return reader_refuse(r, BROKER_MALFORMED, "a queue is bound twice with one pattern");
        }
    }
    return !r->error;
}
