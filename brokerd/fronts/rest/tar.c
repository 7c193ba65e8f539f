#include "tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* POSIX.1-2017, pax, "ustar Interchange Format". Numbers are octal text. */
struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2],
        owner[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK_BYTES, "a header is a block");

enum { SIZE_DIGITS = 11, RECORD_BYTES = 512, NAME_BYTES = 300 };
#define USTAR_MAX_BYTES 077777777777ull /* 8 GiB less one: what eleven digits hold */

static void put_octal(char *to, int digits, uint64_t value)
{
    for (to[digits] = '\0'; digits > 0; value >>= 3)
        to[--digits] = (char)('0' + (value & 7));
}

static bool put_header(struct buf *out, char type, const char *name, uint64_t bytes, uint64_t modified_s)
{
    struct ustar *h = (struct ustar *)buf_reserve(out, sizeof(*h));
    if (!h)
        return false;
    memset(h, 0, sizeof(*h));
    memcpy(h->name, name, strnlen(name, sizeof(h->name)));
    put_octal(h->mode, sizeof(h->mode) - 1, 0600);
    put_octal(h->uid, sizeof(h->uid) - 1, 0);
    put_octal(h->gid, sizeof(h->gid) - 1, 0);
    put_octal(h->size, SIZE_DIGITS, bytes <= USTAR_MAX_BYTES ? bytes : 0);
    put_octal(h->mtime, SIZE_DIGITS, modified_s);
    h->type = type;
    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    memset(h->checksum, ' ', sizeof(h->checksum)); /* counted as blanks */
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(*h); i++)
        sum += ((const uint8_t *)h)[i];
    put_octal(h->checksum, 6, sum);
    out->len += sizeof(*h);
    return true;
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static size_t put_record(char *to, size_t room, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, len = rest + 1;
    while (len != rest + (size_t)snprintf(NULL, 0, "%zu", len))
        len = rest + (size_t)snprintf(NULL, 0, "%zu", len);
    return len < room ? (size_t)snprintf(to, room, "%zu %s=%s\n", len, key, value) : 0;
}

bool tar_head(struct buf *out, const char *name, uint64_t bytes, uint64_t modified_s)
{
    size_t before = out->len, len = 0;
    char records[2 * RECORD_BYTES] = "", number[24], extended[NAME_BYTES];
    snprintf(number, sizeof(number), "%" PRIu64, bytes);
    if (bytes > USTAR_MAX_BYTES)
        len += put_record(records, RECORD_BYTES, "size", number);
    if (strlen(name) > sizeof(((struct ustar *)0)->name))
        len += put_record(records + len, RECORD_BYTES, "path", name);
    snprintf(extended, sizeof(extended), "PaxHeaders/%.80s", name);
    bool good = len == 0 || (put_header(out, 'x', extended, len, modified_s) &&
                             buf_append(out, records, len + tar_padding(len))); /* the array's rest is zeros */
    good = good && put_header(out, '0', name, bytes, modified_s);
    if (!good)
        out->len = before;
    return good;
}

uint32_t tar_padding(uint64_t bytes)
{
    return (uint32_t)(-bytes & (TAR_BLOCK_BYTES - 1));
}
