/*
 * Owns:            everything that mbedTLS does for us; the only user of it.
 * May use:         mbedTLS.
 * Never knows:     what the bytes are for.
 * Start reading at digest.c.
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA1_BYTES = 20 };
/* FIPS 180-4. For WebSocket's handshake (RFC 6455 4.2.2) alone: nothing here relies on its strength. */
bool digest_sha1(const void *bytes, size_t len, uint8_t out[SHA1_BYTES]);

/* RFC 4648 section 4, with padding. base64_encoded_bytes: without the NUL that base64_encode adds. */
static inline size_t base64_encoded_bytes(size_t len)
{
    return (len + 2) / 3 * 4;
}
void base64_encode(char *out, const void *bytes, size_t len); /* base64_encoded_bytes(len) + 1 */
/* Into `out`, of len / 4 * 3 bytes; may be `text` itself. false: it is no base64 (blanks and missing padding included). */
bool base64_decode(uint8_t *out, size_t *out_len, const char *text, size_t len);

#endif
