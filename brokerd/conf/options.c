/* The table of options. conf/brokerd.ini is what `brokerd --help-config` makes of it. */
#include "conf_internal.h"
#include "log.h"

#define KIB    1024ull
#define MIB    (1024ull * KIB)
#define GIB    (1024ull * MIB)
#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

const struct conf_unit conf_byte_units[] = {{"TiB", 1024 * GIB}, {"GiB", GIB}, {"MiB", MIB},
                                            {"KiB", KIB},        {"B", 1},     {NULL, 0}};
const struct conf_unit conf_time_units[] = {{"d", 24 * HOUR}, {"h", HOUR}, {"min", MINUTE},
                                            {"s", SECOND},    {"ms", 1},   {NULL, 0}};

static const char *const level_words[] = {"error", "warning", "notice", "info", "debug", NULL};
static const char *const writer_words[] = {"auto", "uring", "thread", NULL};
static const char *const no_yes_words[] = {"no", "yes", NULL};
static const char *const journal_words[] = {"auto", "yes", "no", NULL};

#define AT(field) offsetof(struct conf, field)

/* clang-format off */
const struct conf_option conf_options[] = {
    {"broker", "data_dir", CONF_TEXT, AT(broker.data_dir), "/var/lib/brokerd", 0, 0, false, NULL,
     "Directory of the log. It is made if it is not there."},
    {"broker", "shutdown", CONF_TIME, AT(broker.shutdown_ms), "10 s", 100, 10 * MINUTE, false, NULL,
     "Most time that an orderly stop (SIGTERM, SIGINT) may take: clients are told, what is under way is finished."},

    {"tcp", "listen", CONF_ADDRESSES, AT(tcp.listen), "127.0.0.1:7440", 0, 0, false, NULL,
     "Where to listen: HOST:PORT, several apart by blanks. HOST is a name, an address, [an IPv6 address] or *; port 0 is "
     "any free one. Empty: nowhere. There is no authentication yet: keep it on loopback or a trusted network."},
    {"tcp", "unix", CONF_TEXT, AT(tcp.unix_path), "", 0, 0, false, NULL,
     "Path of a unix socket to listen on as well. Empty: none."},
    {"tcp", "unix_mode", CONF_OCTAL, AT(tcp.unix_mode), "0660", 0, 0777, false, NULL,
     "Permissions of the unix socket: who may write to it may use the broker."},
    {"tcp", "max_connections", CONF_NUMBER, AT(tcp.max_connections), "10000", 1, 1000000, false, NULL,
     "One more is told so and closed. Each needs a file descriptor (LimitNOFILE)."},
    {"tcp", "heartbeat", CONF_TIME, AT(tcp.heartbeat_ms), "10 s", 100, HOUR, true, NULL,
     "After this long without sending anything a heartbeat is sent; a client silent for three times this is cut off. For "
     "clients that do not ask for another. 0: none."},
    {"tcp", "hello_timeout", CONF_TIME, AT(tcp.hello_ms), "5 s", 100, HOUR, false, NULL,
     "A client has this long to greet."},
    {"tcp", "frame_timeout", CONF_TIME, AT(tcp.frame_ms), "30 s", 100, HOUR, false, NULL,
     "A frame that has begun must be complete after this."},
    {"tcp", "stall_timeout", CONF_TIME, AT(tcp.stall_ms), "1 min", 100, 24 * HOUR, false, NULL,
     "A client that takes nothing of what waits for it for this long is cut off."},
    {"tcp", "linger", CONF_TIME, AT(tcp.linger_ms), "2 s", 10, MINUTE, false, NULL,
     "A connection that is being closed may take this long to fetch its last bytes, such as the error that closed it."},
    {"tcp", "read_buffer", CONF_BYTES, AT(tcp.read_buffer_bytes), "512 KiB", 16 * KIB, 16 * MIB, false, NULL,
     "The loop's buffer: most that is read from one connection before the next has its turn."},
    {"tcp", "input_total", CONF_BYTES, AT(tcp.input_bytes), "256 MiB", MIB, 1024 * GIB, false, NULL,
     "Memory for frames that are not complete yet, all connections together. Over it, connections wait unread."},
    {"tcp", "output", CONF_BYTES, AT(tcp.output_bytes), "1 MiB", 16 * KIB, GIB, false, NULL,
     "Unsent output of one connection above which it gets no more messages; above twice that it is not read either."},
    {"tcp", "output_total", CONF_BYTES, AT(tcp.output_total_bytes), "256 MiB", MIB, 1024 * GIB, false, NULL,
     "Unsent output of all connections above which those that have any get no more messages."},

    {"http", "listen", CONF_ADDRESSES, AT(http.listen), "127.0.0.1:7480", 0, 0, false, NULL,
     "Where HTTP, event streams and WebSocket are served, and the page: as tcp.listen. Empty: nowhere. There is no "
     "authentication yet: keep it on loopback or a trusted network."},
    {"http", "unix", CONF_TEXT, AT(http.unix_path), "", 0, 0, false, NULL,
     "Path of a unix socket to serve HTTP on as well. Empty: none."},
    {"http", "unix_mode", CONF_OCTAL, AT(http.unix_mode), "0660", 0, 0777, false, NULL,
     "Permissions of the unix socket: who may write to it may use the broker."},
    {"http", "max_connections", CONF_NUMBER, AT(http.max_connections), "20000", 1, 1000000, false, NULL,
     "One more is told 503 and closed. Each needs a file descriptor (LimitNOFILE)."},
    {"http", "head_timeout", CONF_TIME, AT(http.head_ms), "10 s", 100, HOUR, false, NULL,
     "A request's line and fields must be complete after this."},
    {"http", "idle_timeout", CONF_TIME, AT(http.idle_ms), "2 min", 100, 24 * HOUR, false, NULL,
     "A connection without a request under way is closed after this."},
    {"http", "body_rate", CONF_BYTES, AT(http.body_bytes_per_second), "1 KiB", 1, GIB, false, NULL,
     "Least bytes a second in which a request's body must come, after head_timeout of grace."},
    {"http", "max_head", CONF_BYTES, AT(http.max_head_bytes), "8 KiB", KIB, 64 * KIB, false, NULL,
     "Largest request line and fields together."},
    {"http", "max_fields", CONF_NUMBER, AT(http.max_fields), "100", 10, 1000, false, NULL,
     "Fields of one request."},
    {"http", "max_body", CONF_BYTES, AT(http.max_body_bytes), "17 MiB", 64 * KIB, 256 * MIB, false, NULL,
     "Largest body of a request: a batch of messages, say."},
    {"http", "chunked_total", CONF_BYTES, AT(http.chunked_bytes), "64 MiB", MIB, 1024 * GIB, false, NULL,
     "Memory for bodies of unknown length (chunked) that are not complete yet, all connections together."},
    {"http", "pipelined", CONF_NUMBER, AT(http.pipelined), "64", 1, 10000, false, NULL,
     "Requests of one connection that are answered at the same time; more of them wait unread."},
    {"http", "output", CONF_BYTES, AT(http.output_bytes), "256 KiB", 16 * KIB, GIB, false, NULL,
     "Unsent output of one connection above which it is given no more messages."},
    {"http", "max_wait", CONF_TIME, AT(http.max_wait_ms), "1 min", 0, HOUR, false, NULL,
     "Longest wait= of a lease or a read; what asks for more is answered after this."},
    {"http", "origins", CONF_TEXT, AT(http.origins), "", 0, 0, false, NULL,
     "Origins whose pages may use the broker besides its own page: https://a.example, several apart by blanks; * is any."},
    {"http", "hosts", CONF_TEXT, AT(http.hosts), "", 0, 0, false, NULL,
     "Host names, apart by blanks, under which browsers may use the broker besides its addresses and localhost."},
    {"http", "page", CONF_WORD, AT(http.page), "yes", 0, 1, false, no_yes_words,
     "Serve the page on / and /ui/."},
    {"http", "event_heartbeat", CONF_TIME, AT(http.event_heartbeat_ms), "15 s", 100, HOUR, false, NULL,
     "An event stream that has been silent for this long gets a comment, so that proxies keep it open."},
    {"http", "event_retry", CONF_TIME, AT(http.event_retry_ms), "2 s", 1, HOUR, false, NULL,
     "How long clients of event streams are told to wait before they connect again."},
    {"http", "statistics_interval", CONF_TIME, AT(http.statistics_interval_ms), "1 s", 100, HOUR, false, NULL,
     "How often the statistics stream tells."},
    {"http", "statistics_queues", CONF_NUMBER, AT(http.statistics_queues), "1000", 1, 100000, false, NULL,
     "Most queues with figures of their own in /metrics and in one answer of the statistics."},

    {"websocket", "max_message", CONF_BYTES, AT(websocket.max_message_bytes), "16 MiB", KIB, 256 * MIB, false, NULL,
     "Largest message from a client, inflated if it came deflated."},
    {"websocket", "ping", CONF_TIME, AT(websocket.ping_ms), "20 s", 100, HOUR, false, NULL,
     "A client silent for this long is sent a ping; silent for as long again, it is cut off."},
    {"websocket", "close_timeout", CONF_TIME, AT(websocket.close_ms), "2 s", 10, MINUTE, false, NULL,
     "How long a client has to answer a close."},
    {"websocket", "deflate", CONF_WORD, AT(websocket.deflate), "no", 0, 1, false, no_yes_words,
     "Compress for clients that offer permessage-deflate. It costs processor time and about 300 KiB while it works."},

    {"store", "segment", CONF_BYTES, AT(store.segment_bytes), "64 MiB", MIB, GIB, false, NULL,
     "Size of a segment file of the log."},
    {"store", "window", CONF_BYTES, AT(store.window_bytes), "64 MiB", MIB, 4 * GIB, false, NULL,
     "Bytes that may wait for the disk; publishes beyond it are told that the broker is overloaded."},
    {"store", "tail_cache", CONF_BYTES, AT(store.tail_cache_bytes), "4 MiB", 64 * KIB, 64 * GIB, false, NULL,
     "Newest part of the log that is kept in memory for consumers that are at its head."},
    {"store", "read_cache", CONF_BYTES, AT(store.read_cache_bytes), "8 MiB", MIB, 64 * GIB, false, NULL,
     "Memory for what is read from disk for consumers in the backlog."},
    {"store", "max_disk", CONF_BYTES, AT(store.max_disk_bytes), "0", 4 * MIB, 1024 * 1024 * GIB, true, NULL,
     "Most bytes of segments on disk; publishes beyond it are told that the disk is full. 0: as much as the disk has."},
    {"store", "spare", CONF_BYTES, AT(store.spare_bytes), "256 MiB", 0, 1024 * GIB, false, NULL,
     "Segments that nobody needs any more are kept for reuse up to this, and removed beyond it."},
    {"store", "sync_interval", CONF_TIME, AT(store.sync_interval_ms), "1 s", 1, MINUTE, false, NULL,
     "How often the log is synced for queues with sync = interval."},
    {"store", "clean_below", CONF_PERCENT, AT(store.clean_below_percent), "30", 1, 90, false, NULL,
     "A segment of which less than this is still wanted has its rest moved away, and is reused."},
    {"store", "checkpoint", CONF_BYTES, AT(store.checkpoint_bytes), "16 MiB", MIB, 16 * GIB, false, NULL,
     "Log written between two checkpoints (or twice what a checkpoint takes, if that is more); what a start after a "
     "crash has to read."},
    {"store", "writer", CONF_WORD, AT(store.writer), "auto", CONF_WRITER_AUTO, CONF_WRITER_THREAD, false, writer_words,
     "Who writes and syncs the log: uring (io_uring, past the page cache), thread (pwrite and fdatasync on a thread of "
     "its own), or auto: uring where the system offers it."},

    {"limits", "max_message", CONF_BYTES, AT(limits.max_message_bytes), "8 MiB", KIB, 64 * MIB, false, NULL,
     "Largest message: body, headers and key together."},
    {"limits", "max_frame", CONF_BYTES, AT(limits.max_frame_bytes), "17 MiB", 64 * KIB, 256 * MIB, false, NULL,
     "Largest frame body of the native protocol, either way. At least 64 KiB more than max_message."},
    {"limits", "max_queues", CONF_NUMBER, AT(limits.max_queues), "1000000", 1, 100000000, false, NULL,
     "Queues."},
    {"limits", "max_groups", CONF_NUMBER, AT(limits.max_groups), "1000", 1, 1000000, false, NULL,
     "Groups of one queue."},
    {"limits", "subscriptions", CONF_NUMBER, AT(limits.subscriptions), "1000", 1, 1000000, false, NULL,
     "Subscriptions of one connection."},
    {"limits", "waiting_leases", CONF_NUMBER, AT(limits.waiting_leases), "16", 1, 10000, false, NULL,
     "LEASE requests of one connection that wait for messages at the same time."},
    {"limits", "settle_ranges", CONF_NUMBER, AT(limits.settle_ranges), "1024", 1, 65536, false, NULL,
     "Receipt ranges in one ACK, NACK or EXTEND."},
    {"limits", "list_limit", CONF_NUMBER, AT(limits.list_limit), "1000", 1, 1000, false, NULL,
     "Queues in one answer to QUEUE_LIST."},
    {"limits", "producers", CONF_NUMBER, AT(limits.producers), "100000", 1, 100000000, false, NULL,
     "Producers remembered for recognising repeated publishes; beyond it the one unused for longest is forgotten."},
    {"limits", "producer_ttl", CONF_TIME, AT(limits.producer_ttl_ms), "1 h", SECOND, 30 * 24 * HOUR, false, NULL,
     "A producer that publishes nothing for this long is forgotten."},
    {"limits", "default_lease", CONF_TIME, AT(limits.default_lease_ms), "30 s", 1, 24 * HOUR, false, NULL,
     "Lease of queues that set none."},

    {"limits", "max_bindings", CONF_NUMBER, AT(limits.max_bindings), "1000", 1, 1000000, false, NULL,
     "Topic patterns bound to one queue."},
    {"limits", "transact_parts", CONF_NUMBER, AT(limits.transact_parts), "1024", 1, 1024, false, NULL,
     "Parts of one transaction."},
    {"limits", "schedule_entries", CONF_NUMBER, AT(limits.schedule_entries), "65536", 1024, 100000000, false, NULL,
     "Due and expiry times kept in memory, all queues together; beyond it they wait in the log until they come near."},
    {"limits", "compaction_keys", CONF_NUMBER, AT(limits.compaction_keys), "1000000", 1, 100000000, false, NULL,
     "Distinct keys that one pass over a compacted log remembers; beyond it a log takes several passes."},

    {"log", "level", CONF_WORD, AT(log.level), "info", LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG, false, level_words,
     "What is written to standard error."},
    {"log", "journal", CONF_WORD, AT(log.journal), "auto", CONF_JOURNAL_AUTO, CONF_JOURNAL_NO, false, journal_words,
     "Priorities as the journal understands them before each line; auto: if standard error is the journal."},
};
/* clang-format on */

const size_t conf_option_count = sizeof(conf_options) / sizeof(conf_options[0]);
