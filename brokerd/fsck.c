/* brokerd --fsck: the store's report on a data directory, as lines of text or of JSON. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon.h"
#include "store.h"

enum { FSCK_CLEAN = 0, FSCK_DAMAGE = 1, FSCK_COULD_NOT = 2 };

static void print_json_text(const char *text)
{
    putchar('"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            printf("\\%c", *p);
        else if (*p < 0x20)
            printf("\\u%04x", *p);
        else
            putchar(*p);
    }
    putchar('"');
}

static void print_line(void *arg, bool problem, const char *text)
{
    const struct conf_args *args = arg;
    if (args->json) {
        printf("{\"type\":\"%s\",\"text\":", problem ? "problem" : "note");
        print_json_text(text);
        puts("}");
    } else {
        printf("%s: %s\n", problem ? "damage" : "note", text);
    }
}

static void print_summary(const struct conf_args *args, const struct fsck_result *r)
{
#define N(x) (unsigned long long)(x)
    if (args->json)
        printf("{\"type\":\"summary\",\"segments\":%llu,\"batches\":%llu,\"records\":%llu,\"messages\":%llu,\"bytes\":%"
               "llu,"
               "\"problems\":%llu,\"notes\":%llu,\"messages_lost\":%llu,\"quarantined\":%s}\n",
               N(r->segments), N(r->batches), N(r->records), N(r->messages), N(r->bytes), N(r->problems), N(r->notes),
               N(r->messages_lost), args->quarantine && r->problems ? "true" : "false");
    else
        printf("%llu segments, %llu batches, %llu records, %llu messages, %llu bytes; %llu damaged places, %llu notes, "
               "%llu "
               "messages lost\n",
               N(r->segments), N(r->batches), N(r->records), N(r->messages), N(r->bytes), N(r->problems), N(r->notes),
               N(r->messages_lost));
#undef N
}

int fsck_run(const struct conf_args *args)
{
    const struct disk_ops *ops;
    void *disk;
    struct fsck_result result = {0};
    struct store_report report = {.line = print_line, .arg = (void *)(uintptr_t)args};
    int error = disk_posix_open(args->fsck_dir, false, &ops, &disk);
    if (error) {
        fprintf(stderr, "brokerd: cannot open the data directory %s: %s\n", args->fsck_dir, strerror(error));
        return FSCK_COULD_NOT;
    }
    broker_error status = store_fsck(ops, disk, args->quarantine, &report, &result);
    disk_posix_close(disk);
    if (status != BROKER_OK && status != BROKER_DAMAGED) {
        fprintf(stderr, "brokerd: could not read %s: %s\n", args->fsck_dir, broker_strerror(status));
        return FSCK_COULD_NOT;
    }
    print_summary(args, &result);
    if (status == BROKER_DAMAGED && !args->json && !args->quarantine)
        puts("nothing was changed; --quarantine moves what is damaged away and keeps the rest");
    return status == BROKER_DAMAGED ? FSCK_DAMAGE : FSCK_CLEAN;
}
