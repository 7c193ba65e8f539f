/* The bytes on disk: heads, footers, checkpoints, file names. docs/STORAGE.md says the same in prose. No I/O here. */
#ifndef STORE_FORMAT_H
#define STORE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

enum {
    FORMAT_VERSION = 1,
    SEGMENT_HEAD_BYTES = 64,
    SEGMENT_DATA_START = 4096, /* batches start on a page of their own: rewriting one never touches the head */
    SEGMENT_TRAILER_BYTES = 64,
    SEGMENT_MIN_BYTES = 16 << 10, /* for tests; the configuration asks for 1 MiB at least */
    BATCH_HEAD_BYTES = 48,
    DIRECTORY_RUN_BYTES = 32,
    ENTRY_BYTES = 8,
    ENTRY_BLOCK_BYTES = 4096, /* entries, then crc and number: the last block is shorter */
    ENTRY_BLOCK_TAIL_BYTES = 8,
    ENTRIES_PER_BLOCK = (ENTRY_BLOCK_BYTES - ENTRY_BLOCK_TAIL_BYTES) / ENTRY_BYTES,
    CHECKPOINT_HEAD_BYTES = 128,
    CHECKPOINT_SEGMENT_BYTES = 64,
    CHECKPOINT_RUN_BYTES = 48,
    CHECKPOINT_TIME_BYTES = 16,
    TIMES_SEALED_MAX = 32, /* time blocks of a sealed run */
    FILE_NAME_BYTES = 64
};

enum segment_kind { SEGMENT_LOG = 1, SEGMENT_COLD = 2 };
enum format_check { FORMAT_OK, FORMAT_DAMAGED, FORMAT_FOREIGN_VERSION };

enum {
    SEGMENT_RECYCLED = 1
}; /* the file was a segment before: what lies behind the log's end are old bytes, not zeros */

struct segment_head {
    enum segment_kind kind;
    uint32_t number;
    uint32_t flags;
    uint32_t version;
    uint64_t bytes; /* of the file */
};
void segment_head_put(uint8_t out[SEGMENT_HEAD_BYTES], const struct segment_head *head);
enum format_check segment_head_get(const uint8_t in[SEGMENT_HEAD_BYTES], struct segment_head *head);

enum { BATCH_REPAIRED = 1 }; /* by fsck: may stand for several lost batches, so its index may be more than the next */

struct batch_head {
    uint64_t index;
    uint64_t durable; /* the index known to be on disk when this batch was closed */
    uint32_t epoch;
    uint32_t length; /* with the head */
    uint32_t segment;
    uint32_t count;
    uint32_t records_crc; /* over the first 8 bytes (length, crc) of each record */
    uint32_t flags;
};
void batch_head_put(uint8_t out[BATCH_HEAD_BYTES], const struct batch_head *head);
/* Does a batch head of this segment stand here? Its own CRC says so; nothing is said of its records. */
bool batch_head_get(const uint8_t in[BATCH_HEAD_BYTES], uint32_t segment, struct batch_head *head);
uint32_t batch_magic_word(void); /* a batch begins with these 4 bytes, as get_u32 reads them */
/* Are all records of a batch there and whole? `batch` has head->length bytes. */
bool batch_records_ok(const uint8_t *batch, const struct batch_head *head);

struct segment_trailer {
    uint32_t number;
    uint32_t runs, entries;
    uint64_t data_end;
    uint64_t footer_at; /* directory, then entry blocks */
    uint64_t max_time_ms;
    uint32_t directory_crc;
    uint32_t version;
};
void segment_trailer_put(uint8_t out[SEGMENT_TRAILER_BYTES], const struct segment_trailer *trailer);
enum format_check segment_trailer_get(const uint8_t in[SEGMENT_TRAILER_BYTES], struct segment_trailer *trailer);

struct directory_run { /* messages first .. first + count - 1 of a queue; holes have entries of length 0 */
    uint32_t queue;
    uint32_t lane; /* 0 */
    uint64_t first;
    uint32_t count;
    uint32_t entry; /* index of the entry of `first` */
    uint64_t max_time_ms;
};
void directory_run_put(uint8_t out[DIRECTORY_RUN_BYTES], const struct directory_run *run);
void directory_run_get(const uint8_t in[DIRECTORY_RUN_BYTES], struct directory_run *run);

struct entry { /* of one message: its record lies at place * 8 in the segment */
    uint32_t place;
    uint32_t length; /* unpadded, and ENTRY_… bits; 0: a hole */
};
/* In memory only: the engine does not want it any more. */
#define ENTRY_DEAD 0x80000000u
/* A further place of the message, which a RECORD_ROUTE gave it: the record names another queue and seq. */
#define ENTRY_ROUTED      0x40000000u
#define ENTRY_LENGTH_MASK 0x0fffffffu /* lengths stay below 2^26 */
static inline uint32_t entry_length(const struct entry *e)
{
    return e->length & ENTRY_LENGTH_MASK;
}

/* The further places of the message that follows a RECORD_ROUTE. */
#define ROUTE_PLACE_BYTES 16u
struct route {
    uint32_t n; /* 0: there is no route */
    const uint8_t *places;
};
static inline uint32_t route_queue(const struct route *r, uint32_t i)
{
    return get_u32(r->places + (size_t)i * ROUTE_PLACE_BYTES);
}
static inline uint64_t route_seq(const struct route *r, uint32_t i)
{
    return get_u64(r->places + (size_t)i * ROUTE_PLACE_BYTES + 8);
}
/* What a RECORD_ROUTE of `length` bytes says; n 0 if it is none, or none that makes sense. Looks at no CRC. */
struct route route_get(const uint8_t *record, uint32_t length);

/* n entries, 1..ENTRIES_PER_BLOCK, with dead ones as holes; returns the bytes put. */
size_t entry_block_put(uint8_t out[ENTRY_BLOCK_BYTES], const struct entry *entries, uint32_t n, uint32_t segment,
                       uint32_t block);
bool entry_block_get(const uint8_t *in, uint32_t n, uint32_t segment, uint32_t block, struct entry *entries);
/* Bytes of all blocks that hold n entries. */
uint64_t entry_blocks_bytes(uint64_t n);

enum { CHECKPOINT_CLEAN = 1 }; /* nothing was under way when it was taken */

struct checkpoint_head {
    uint64_t index; /* of the last batch whose records it contains */
    uint32_t epoch;
    uint32_t flags;
    uint32_t end_segment; /* where the batch after it goes */
    uint64_t end_offset;
    uint32_t next_number; /* above every segment number used so far */
    uint32_t segments;
    uint64_t store_bytes, engine_bytes;
    uint32_t store_crc, engine_crc;
    uint64_t time_ms; /* wall clock, for people */
    uint32_t version;
};
void checkpoint_head_put(uint8_t out[CHECKPOINT_HEAD_BYTES], const struct checkpoint_head *head);
enum format_check checkpoint_head_get(const uint8_t in[CHECKPOINT_HEAD_BYTES], struct checkpoint_head *head);

struct checkpoint_segment {
    uint32_t number;
    enum segment_kind kind;
    bool sealed;
    uint64_t file_bytes, data_end;
    uint64_t first_index, last_index; /* 0: no batch */
    uint64_t max_time_ms;
};
void checkpoint_segment_put(uint8_t out[CHECKPOINT_SEGMENT_BYTES], const struct checkpoint_segment *segment);
void checkpoint_segment_get(const uint8_t in[CHECKPOINT_SEGMENT_BYTES], struct checkpoint_segment *segment);

struct checkpoint_run { /* followed by `times` pairs of u32 entry, u32 0, u64 greatest time up to the next pair */
    uint32_t queue;
    uint32_t segment;
    uint64_t first;
    uint32_t count, live;
    uint64_t bytes;
    uint32_t entry;
    uint32_t times;
};
void checkpoint_run_put(uint8_t out[CHECKPOINT_RUN_BYTES], const struct checkpoint_run *run);
void checkpoint_run_get(const uint8_t in[CHECKPOINT_RUN_BYTES], struct checkpoint_run *run);

/* ---- names ------------------------------------------------------------------------------------------------------- */

enum file_kind {
    FILE_OTHER,
    FILE_LOG,
    FILE_COLD,
    FILE_SPARE,
    FILE_CHECKPOINT,
    FILE_TEMPORARY,
    FILE_LOCK,
    FILE_QUARANTINE
};

void segment_name(char out[FILE_NAME_BYTES], enum segment_kind kind, uint32_t number);
void spare_name(char out[FILE_NAME_BYTES], uint32_t number);
void checkpoint_name(char out[FILE_NAME_BYTES], uint64_t index);
/* What a name says; *number is the segment's, the spare's or the checkpoint's (0 for others). */
enum file_kind file_kind_of(const char *name, uint64_t *number);

#endif
