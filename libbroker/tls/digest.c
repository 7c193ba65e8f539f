#include "digest.h"

#include <mbedtls/base64.h>
#include <mbedtls/sha1.h>
#include <mbedtls/version.h>

bool digest_sha1(const void *bytes, size_t len, uint8_t out[SHA1_BYTES])
{
#if MBEDTLS_VERSION_MAJOR < 3
    return mbedtls_sha1_ret(bytes, len, out) == 0;
#else
    return mbedtls_sha1(bytes, len, out) == 0;
#endif
}

void base64_encode(char *out, const void *bytes, size_t len)
{
    size_t n = 0;
    mbedtls_base64_encode((unsigned char *)out, base64_encoded_bytes(len) + 1, &n, bytes, len);
    out[n] = '\0';
}

/* mbedTLS skips line breaks and blanks; here they are mistakes. */
bool base64_decode(uint8_t *out, size_t *out_len, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\r')
            return false;
    *out_len = 0;
    return len % 4 == 0 && mbedtls_base64_decode(out, len / 4 * 3, out_len, (const unsigned char *)text, len) == 0;
}
