/* CRC32C by ISA-L, which uses the processor's instruction where there is one. */
#include "wire.h"

#include <isa-l/crc.h>

/* crc32_iscsi neither inverts on entry nor on exit, and takes an int as length: hence the inversions and the pieces. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    const size_t piece_max = 1u << 30;

    crc = ~crc;
    while (len > 0) {
        size_t piece = len < piece_max ? len : piece_max;
        /* ISA-L's prototype lacks a const; it only reads. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)piece, crc);
        p += piece;
        len -= piece;
    }
    return ~crc;
}
