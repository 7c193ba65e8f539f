/* The bytes on disk. Every head ends or starts with a CRC32C over the rest of it. */
#include "format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char segment_magic[8] = {'B', 'R', 'K', 'D', 'S', 'E', 'G', '\n'};
static const char trailer_magic[8] = {'B', 'R', 'K', 'D', 'F', 'T', 'R', '\n'};
static const char checkpoint_magic[8] = {'B', 'R', 'K', 'D', 'C', 'K', 'P', '\n'};
static const uint8_t batch_magic[4] = {0xb7, 'B', 'A', 'T'};

static enum format_check check_head(const uint8_t *in, size_t bytes, const char magic[8])
{
    if (memcmp(in, magic, 8) != 0 || get_u32(in + bytes - 4) != crc32c(0, in, bytes - 4))
        return FORMAT_DAMAGED;
    return get_u32(in + 8) == FORMAT_VERSION ? FORMAT_OK : FORMAT_FOREIGN_VERSION;
}

static void begin_head(uint8_t *out, size_t bytes, const char magic[8])
{
    memset(out, 0, bytes);
    memcpy(out, magic, 8);
    put_u32(out + 8, FORMAT_VERSION);
}

static void end_head(uint8_t *out, size_t bytes)
{
    put_u32(out + bytes - 4, crc32c(0, out, bytes - 4));
}

void segment_head_put(uint8_t out[SEGMENT_HEAD_BYTES], const struct segment_head *head)
{
    begin_head(out, SEGMENT_HEAD_BYTES, segment_magic);
    put_u32(out + 12, head->kind);
    put_u32(out + 16, head->number);
    put_u32(out + 20, head->flags);
    put_u64(out + 24, head->bytes);
    end_head(out, SEGMENT_HEAD_BYTES);
}

enum format_check segment_head_get(const uint8_t in[SEGMENT_HEAD_BYTES], struct segment_head *head)
{
    enum format_check check = check_head(in, SEGMENT_HEAD_BYTES, segment_magic);
    *head = (struct segment_head){.kind = get_u32(in + 12),
                                  .number = get_u32(in + 16),
                                  .flags = get_u32(in + 20),
                                  .version = get_u32(in + 8),
                                  .bytes = get_u64(in + 24)};
    if (check == FORMAT_OK && head->kind != SEGMENT_LOG && head->kind != SEGMENT_COLD)
        return FORMAT_DAMAGED;
    return check;
}

/* 0 magic, 4 crc of 8..48, 8 index, 16 durable, 24 epoch, 28 length, 32 segment, 36 count, 40 records crc, 44 flags */
void batch_head_put(uint8_t out[BATCH_HEAD_BYTES], const struct batch_head *head)
{
    memcpy(out, batch_magic, 4);
    put_u64(out + 8, head->index);
    put_u64(out + 16, head->durable);
    put_u32(out + 24, head->epoch);
    put_u32(out + 28, head->length);
    put_u32(out + 32, head->segment);
    put_u32(out + 36, head->count);
    put_u32(out + 40, head->records_crc);
    put_u32(out + 44, head->flags);
    put_u32(out + 4, crc32c(0, out + 8, BATCH_HEAD_BYTES - 8));
}

uint32_t batch_magic_word(void)
{
    return get_u32(batch_magic);
}

bool batch_head_get(const uint8_t in[BATCH_HEAD_BYTES], uint32_t segment, struct batch_head *head)
{
    if (memcmp(in, batch_magic, 4) != 0 || get_u32(in + 4) != crc32c(0, in + 8, BATCH_HEAD_BYTES - 8))
        return false;
    *head = (struct batch_head){.index = get_u64(in + 8),
                                .durable = get_u64(in + 16),
                                .epoch = get_u32(in + 24),
                                .length = get_u32(in + 28),
                                .segment = get_u32(in + 32),
                                .count = get_u32(in + 36),
                                .records_crc = get_u32(in + 40),
                                .flags = get_u32(in + 44)};
    return head->segment == segment && head->length >= BATCH_HEAD_BYTES && head->length % 8 == 0 && head->index != 0 &&
           head->durable < head->index && (head->flags & ~(uint32_t)BATCH_REPAIRED) == 0;
}

bool batch_records_ok(const uint8_t *batch, const struct batch_head *head)
{
    uint32_t at = BATCH_HEAD_BYTES, count = 0, crc = 0;
    while (at < head->length) {
        if (!record_intact(batch + at, head->length - at))
            return false;
        crc = crc32c(crc, batch + at, 8);
        uint32_t padded = record_padded(batch + at);
        if (padded > head->length - at)
            return false;
        at += padded;
        count++;
    }
    return count == head->count && crc == head->records_crc;
}

void segment_trailer_put(uint8_t out[SEGMENT_TRAILER_BYTES], const struct segment_trailer *trailer)
{
    begin_head(out, SEGMENT_TRAILER_BYTES, trailer_magic);
    put_u32(out + 12, trailer->number);
    put_u32(out + 16, trailer->runs);
    put_u32(out + 20, trailer->entries);
    put_u64(out + 24, trailer->data_end);
    put_u64(out + 32, trailer->footer_at);
    put_u64(out + 40, trailer->max_time_ms);
    put_u32(out + 48, trailer->directory_crc);
    end_head(out, SEGMENT_TRAILER_BYTES);
}

enum format_check segment_trailer_get(const uint8_t in[SEGMENT_TRAILER_BYTES], struct segment_trailer *trailer)
{
    *trailer = (struct segment_trailer){.number = get_u32(in + 12),
                                        .runs = get_u32(in + 16),
                                        .entries = get_u32(in + 20),
                                        .data_end = get_u64(in + 24),
                                        .footer_at = get_u64(in + 32),
                                        .max_time_ms = get_u64(in + 40),
                                        .directory_crc = get_u32(in + 48),
                                        .version = get_u32(in + 8)};
    return check_head(in, SEGMENT_TRAILER_BYTES, trailer_magic);
}

void directory_run_put(uint8_t out[DIRECTORY_RUN_BYTES], const struct directory_run *run)
{
    put_u32(out, run->queue);
    put_u32(out + 4, run->lane);
    put_u64(out + 8, run->first);
    put_u32(out + 16, run->count);
    put_u32(out + 20, run->entry);
    put_u64(out + 24, run->max_time_ms);
}

void directory_run_get(const uint8_t in[DIRECTORY_RUN_BYTES], struct directory_run *run)
{
    *run = (struct directory_run){.queue = get_u32(in),
                                  .lane = get_u32(in + 4),
                                  .first = get_u64(in + 8),
                                  .count = get_u32(in + 16),
                                  .entry = get_u32(in + 20),
                                  .max_time_ms = get_u64(in + 24)};
}

struct route route_get(const uint8_t *record, uint32_t length)
{
    const uint8_t *body = record + RECORD_HEAD_BYTES;
    if (length < RECORD_HEAD_BYTES + 8 + ROUTE_PLACE_BYTES || record_type_of(record) != RECORD_ROUTE ||
        (length - RECORD_HEAD_BYTES - 8) / ROUTE_PLACE_BYTES != get_u32(body) ||
        (length - RECORD_HEAD_BYTES - 8) % ROUTE_PLACE_BYTES)
        return (struct route){0, NULL};
    return (struct route){get_u32(body), body + 8};
}

/* The CRC also covers where the block belongs, so that a block of another segment cannot pass. */
static uint32_t entry_block_crc(const uint8_t *block, uint32_t n, uint32_t segment, uint32_t number)
{
    uint8_t where[8];
    put_u32(where, segment);
    put_u32(where + 4, number);
    return crc32c(crc32c(0, block, (size_t)n * ENTRY_BYTES), where, sizeof where);
}

size_t entry_block_put(uint8_t out[ENTRY_BLOCK_BYTES], const struct entry *entries, uint32_t n, uint32_t segment,
                       uint32_t block)
{
    for (uint32_t i = 0; i < n; i++) {
        bool dead = (entries[i].length & ENTRY_DEAD) || entries[i].length == 0;
        put_u32(out + i * ENTRY_BYTES, dead ? 0 : entries[i].place);
        put_u32(out + i * ENTRY_BYTES + 4, dead ? 0 : entries[i].length);
    }
    put_u32(out + n * ENTRY_BYTES, entry_block_crc(out, n, segment, block));
    put_u32(out + n * ENTRY_BYTES + 4, block);
    return (size_t)n * ENTRY_BYTES + ENTRY_BLOCK_TAIL_BYTES;
}

bool entry_block_get(const uint8_t *in, uint32_t n, uint32_t segment, uint32_t block, struct entry *entries)
{
    if (get_u32(in + n * ENTRY_BYTES) != entry_block_crc(in, n, segment, block) ||
        get_u32(in + n * ENTRY_BYTES + 4) != block)
        return false;
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (struct entry){get_u32(in + i * ENTRY_BYTES), get_u32(in + i * ENTRY_BYTES + 4)};
    return true;
}

uint64_t entry_blocks_bytes(uint64_t n)
{
    return n * ENTRY_BYTES + (n + ENTRIES_PER_BLOCK - 1) / ENTRIES_PER_BLOCK * ENTRY_BLOCK_TAIL_BYTES;
}

void checkpoint_head_put(uint8_t out[CHECKPOINT_HEAD_BYTES], const struct checkpoint_head *head)
{
    begin_head(out, CHECKPOINT_HEAD_BYTES, checkpoint_magic);
    put_u32(out + 12, head->flags);
    put_u64(out + 16, head->index);
    put_u32(out + 24, head->epoch);
    put_u32(out + 28, head->end_segment);
    put_u64(out + 32, head->end_offset);
    put_u32(out + 40, head->next_number);
    put_u32(out + 44, head->segments);
    put_u64(out + 48, head->store_bytes);
    put_u64(out + 56, head->engine_bytes);
    put_u32(out + 64, head->store_crc);
    put_u32(out + 68, head->engine_crc);
    put_u64(out + 72, head->time_ms);
    end_head(out, CHECKPOINT_HEAD_BYTES);
}

enum format_check checkpoint_head_get(const uint8_t in[CHECKPOINT_HEAD_BYTES], struct checkpoint_head *head)
{
    *head = (struct checkpoint_head){.index = get_u64(in + 16),
                                     .epoch = get_u32(in + 24),
                                     .flags = get_u32(in + 12),
                                     .end_segment = get_u32(in + 28),
                                     .end_offset = get_u64(in + 32),
                                     .next_number = get_u32(in + 40),
                                     .segments = get_u32(in + 44),
                                     .store_bytes = get_u64(in + 48),
                                     .engine_bytes = get_u64(in + 56),
                                     .store_crc = get_u32(in + 64),
                                     .engine_crc = get_u32(in + 68),
                                     .time_ms = get_u64(in + 72),
                                     .version = get_u32(in + 8)};
    return check_head(in, CHECKPOINT_HEAD_BYTES, checkpoint_magic);
}

void checkpoint_segment_put(uint8_t out[CHECKPOINT_SEGMENT_BYTES], const struct checkpoint_segment *segment)
{
    memset(out, 0, CHECKPOINT_SEGMENT_BYTES);
    put_u32(out, segment->number);
    put_u32(out + 4, segment->kind);
    put_u32(out + 8, segment->sealed);
    put_u64(out + 16, segment->file_bytes);
    put_u64(out + 24, segment->data_end);
    put_u64(out + 32, segment->first_index);
    put_u64(out + 40, segment->last_index);
    put_u64(out + 48, segment->max_time_ms);
}

void checkpoint_segment_get(const uint8_t in[CHECKPOINT_SEGMENT_BYTES], struct checkpoint_segment *segment)
{
    *segment = (struct checkpoint_segment){.number = get_u32(in),
                                           .kind = get_u32(in + 4),
                                           .sealed = get_u32(in + 8) != 0,
                                           .file_bytes = get_u64(in + 16),
                                           .data_end = get_u64(in + 24),
                                           .first_index = get_u64(in + 32),
                                           .last_index = get_u64(in + 40),
                                           .max_time_ms = get_u64(in + 48)};
}

void checkpoint_run_put(uint8_t out[CHECKPOINT_RUN_BYTES], const struct checkpoint_run *run)
{
    memset(out, 0, CHECKPOINT_RUN_BYTES);
    put_u32(out, run->queue);
    put_u32(out + 4, run->segment);
    put_u64(out + 8, run->first);
    put_u32(out + 16, run->count);
    put_u32(out + 20, run->live);
    put_u64(out + 24, run->bytes);
    put_u32(out + 32, run->entry);
    put_u32(out + 36, run->times);
}

void checkpoint_run_get(const uint8_t in[CHECKPOINT_RUN_BYTES], struct checkpoint_run *run)
{
    *run = (struct checkpoint_run){.queue = get_u32(in),
                                   .segment = get_u32(in + 4),
                                   .first = get_u64(in + 8),
                                   .count = get_u32(in + 16),
                                   .live = get_u32(in + 20),
                                   .bytes = get_u64(in + 24),
                                   .entry = get_u32(in + 32),
                                   .times = get_u32(in + 36)};
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

void segment_name(char out[FILE_NAME_BYTES], enum segment_kind kind, uint32_t number)
{
    snprintf(out, FILE_NAME_BYTES, "%s-%010" PRIu32 ".log", kind == SEGMENT_COLD ? "cold" : "segment", number);
}

void spare_name(char out[FILE_NAME_BYTES], uint32_t number)
{
    snprintf(out, FILE_NAME_BYTES, "spare-%010" PRIu32 ".log", number);
}

void checkpoint_name(char out[FILE_NAME_BYTES], uint64_t index)
{
    snprintf(out, FILE_NAME_BYTES, "checkpoint-%020" PRIu64, index);
}

/* `digits` digits and then exactly `rest`. */
static bool parse_number(const char *text, int digits, const char *rest, uint64_t *number)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    }
    *number = value;
    return strcmp(text + digits, rest) == 0;
}

enum file_kind file_kind_of(const char *name, uint64_t *number)
{
    static const struct {
        const char *prefix, *rest;
        int digits;
        uint64_t max;
        enum file_kind kind;
    } table[] = {{"segment-", ".log", 10, UINT32_MAX, FILE_LOG},
                 {"cold-", ".log", 10, UINT32_MAX, FILE_COLD},
                 {"spare-", ".log", 10, UINT32_MAX, FILE_SPARE},
                 {"checkpoint-", "", 20, UINT64_MAX, FILE_CHECKPOINT}};
    *number = 0;
    if (strcmp(name, "lock") == 0)
        return FILE_LOCK;
    if (strcmp(name, "quarantine") == 0)
        return FILE_QUARANTINE;
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, ".tmp") == 0)
        return FILE_TEMPORARY;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t prefix = strlen(table[i].prefix);
        if (strncmp(name, table[i].prefix, prefix) == 0 &&
            parse_number(name + prefix, table[i].digits, table[i].rest, number) && *number <= table[i].max)
            return table[i].kind;
    }
    *number = 0;
    return FILE_OTHER;
}
