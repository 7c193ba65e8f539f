/* A tar archive (POSIX.1-2001 pax: ustar headers, extended ones where ustar has no room) of plain files. */
#ifndef REST_TAR_H
#define REST_TAR_H

#include <stdint.h>

#include "buf.h"

enum { TAR_BLOCK_BYTES = 512, TAR_END_BYTES = 2 * TAR_BLOCK_BYTES };

/* What stands before a file of `bytes` bytes: appended. Mode 0600, nobody's. false: no memory (the buffer is as before). */
bool tar_head(struct buf *out, const char *name, uint64_t bytes, uint64_t modified_s);
/* Zeros that follow its bytes. After the last file come TAR_END_BYTES zeros. */
uint32_t tar_padding(uint64_t bytes);

#endif
