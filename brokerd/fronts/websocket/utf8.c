#include "utf8.h"

#include <string.h>

/* A first byte says how many follow, and between which bounds the second lies: that leaves out overlong forms, surrogates and
   what is beyond U+10FFFF. */
static bool begin(struct utf8 *u, uint8_t byte)
{
    u->least = 0x80;
    u->most = 0xbf;
    if (byte < 0xc2 || byte > 0xf4)
        return false;
    u->left = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    switch (byte) {
    case 0xe0: u->least = 0xa0; break;
    case 0xed: u->most = 0x9f; break;
    case 0xf0: u->least = 0x90; break;
    case 0xf4: u->most = 0x8f; break;
    default: break;
    }
    return true;
}

bool ws_utf8_take(struct utf8 *u, const uint8_t *bytes, size_t len)
{
    const uint8_t *end = bytes + len;
    while (bytes < end) {
        uint64_t eight;
        if (u->left == 0 && end - bytes >= 8) {
            memcpy(&eight, bytes, 8);
            if (!(eight & 0x8080808080808080u)) {
                bytes += 8;
                continue;
            }
        }
        uint8_t byte = *bytes++;
        if (u->left > 0) {
            if (byte < u->least || byte > u->most)
                return false;
            u->least = 0x80;
            u->most = 0xbf;
            u->left--;
        } else if (byte >= 0x80 && !begin(u, byte)) {
            return false;
        }
    }
    return true;
}
