/*
 * Owns:            a growing byte buffer for output, and JSON written into it.
 * May use:         libc.
 * Never knows:     where the bytes go.
 * Start reading at json_bytes.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text { /* zeroed: empty. `failed`: memory ran out once; what was added then is missing */
    char *bytes;
    size_t len, capacity;
    bool failed;
};

void text_add(struct text *t, const void *bytes, size_t len);
__attribute__((format(printf, 2, 3))) void text_addf(struct text *t, const char *format, ...);
void text_release(struct text *t);

#define JSON_DEPTH_MAX 16

struct json { /* {.out = text}: commas are put by itself */
    struct text *out;
    unsigned depth;
    bool after_value[JSON_DEPTH_MAX]; /* per depth: a comma is due before the next value */
    bool after_key;
};

void json_open(struct json *j, char bracket);  /* '{' or '[' */
void json_close(struct json *j, char bracket); /* '}' or ']' */
void json_key(struct json *j, const char *key);
/*
 * json_bytes: RFC 8259 section 7; bytes that are no UTF-8 become U+FFFD. json_text: the same of a C string; NULL:
 * null.
 */
void json_bytes(struct json *j, const char *bytes, size_t len);
void json_text(struct json *j, const char *text);
void json_base64(struct json *j, const void *bytes, size_t len); /* RFC 4648 section 4 */
void json_u64(struct json *j, uint64_t value);
void json_double(struct json *j, double value); /* null if it is no number */
void json_bool(struct json *j, bool value);

/* A key and its value. */
void json_put_text(struct json *j, const char *key, const char *text);
void json_put_u64(struct json *j, const char *key, uint64_t value);
void json_put_real(struct json *j, const char *key, double value);
void json_put_bool(struct json *j, const char *key, bool value);

/* utf8_length: bytes of the well-formed UTF-8 character at p (1..4; RFC 3629), 0 if there is none in `len` bytes. */
size_t utf8_length(const char *p, size_t len);
bool utf8_is_valid(const char *bytes, size_t len);

#endif
