/* Reading a snapshot: each step checks that the bytes are there; after the first error the rest gives nothing. */
#include "engine_internal.h"

const uint8_t *reader_bytes(struct reader *r, size_t n)
{
    if (r->left < n) {
        if (!r->error) {
            r->error = BROKER_MALFORMED;
            r->text = "the engine's snapshot ends early";
        }
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    r->left -= n;
    return p;
}

uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_bytes(r, 4);
    return p ? get_u32(p) : 0;
}

uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_bytes(r, 8);
    return p ? get_u64(p) : 0;
}

bool reader_refuse(struct reader *r, broker_error error, const char *text)
{
    if (!r->error) {
        r->error = error;
        r->text = text;
    }
    return false;
}

bool reader_seqset(struct reader *r, struct seqset *s)
{
    size_t used = r->error ? 0 : seqset_load(s, r->at, r->left);
    return used ? reader_bytes(r, used) != NULL
                : reader_refuse(r, BROKER_MALFORMED, "a set of settled messages is malformed");
}
