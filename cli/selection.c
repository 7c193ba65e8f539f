#include "selection.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static bool parse_seqs(struct cli *cli, const struct selection_options *o, struct selection *out)
{
    if (o->seqs.count && (o->from_seq.given || o->to_seq.given)) {
        cli_complain(cli, CLI_USAGE, "--seq and --from-seq or --to-seq exclude each other");
        return false;
    }
    for (size_t i = 0; i < o->seqs.count; i++) {
        if (!args_seqs(o->seqs.items[i], &out->ranges[i].first, &out->ranges[i].last)) {
            cli_complain(cli, CLI_USAGE, "--seq: '%s' is neither a seq such as 17 nor a range such as 17-20",
                         o->seqs.items[i]);
            return false;
        }
    }
    out->range_count = o->seqs.count;
    return true;
}

bool selection_fill(struct cli *cli, const struct selection_options *o, struct selection *out)
{
    *out = (struct selection){.scan = {.size = sizeof out->scan}};
    broker_scan_options *scan = &out->scan;
    scan->from_seq = o->from_seq.value;
    scan->to_seq = o->to_seq.value;
    if (o->from_seq.given && o->to_seq.given && scan->from_seq > scan->to_seq) {
        cli_complain(cli, CLI_USAGE, "--from-seq %" PRIu64 " is above --to-seq %" PRIu64, scan->from_seq, scan->to_seq);
        return false;
    }
    if ((o->since && !cli_when(cli, "since", o->since, &scan->from_ms)) ||
        (o->until && !cli_when(cli, "until", o->until, &scan->to_ms)))
        return false;
    if (!headers_split(cli, "header", &o->headers, "=:", &out->headers) || !parse_seqs(cli, o, out))
        return false;
    scan->filter = (broker_filter){o->topic, o->key, out->headers.items, out->headers.count};
    out->is_all = !o->from_seq.given && !o->to_seq.given && !o->since && !o->until && !o->topic && !o->key &&
                  !o->headers.count && !o->seqs.count;
    return true;
}

/* ---- a scan ------------------------------------------------------------------------------------------------------ */

struct scan_state {
    const struct scan_job *job;
    broker_scan_result before; /* of the ranges that are done */
    bool draws;
    bool drawn;
};

static bool on_progress(void *arg, const broker_scan_result *so_far)
{
    struct scan_state *s = arg;
    if (s->draws && so_far->next_seq) {
        s->drawn = true;
        fprintf(stderr, "\r%s: %" PRIu64 " %s, at seq %" PRIu64 " \033[K", s->job->queue,
                s->before.matched + so_far->matched, s->job->dry_run ? s->job->would : s->job->done, so_far->next_seq);
    }
    return !cli_interrupted;
}

static void print_result(struct cli *cli, struct text *out, const struct scan_job *job, const broker_scan_result *r)
{
    if (cli->common.json) {
        struct json j = {.out = out};
        json_open(&j, '{');
        json_put_text(&j, "queue", job->queue);
        json_put_u64(&j, job->json_name, r->matched);
        json_put_u64(&j, "skipped", r->skipped);
        json_put_bool(&j, "dry_run", job->dry_run);
        if (r->next_seq)
            json_put_u64(&j, "stopped_at_seq", r->next_seq);
        json_close(&j, '}');
        text_add(out, "\n", 1);
        return;
    }
    text_addf(out, "queue '%s': %" PRIu64 " message%s %s", job->queue, r->matched, r->matched == 1 ? "" : "s",
              job->dry_run ? job->would : job->done);
    if (r->skipped)
        text_addf(out, ", %" PRIu64 " skipped (%s)", r->skipped, job->skipped_why);
    if (r->next_seq)
        text_addf(out, "; stopped: go on with --from-seq %" PRIu64, r->next_seq);
    text_add(out, "\n", 1);
}

enum cli_exit scan_run(struct cli *cli, const struct scan_job *job, struct selection *s)
{
    struct scan_state state = {.job = job, .draws = !cli->common.json && isatty(STDERR_FILENO)};
    broker_scan_result total = {0};
    size_t ranges = s->range_count ? s->range_count : 1;
    broker_error error = BROKER_OK;
    cli_catch_interrupts();
    if (job->dry_run)
        s->scan.target = NULL; /* a count goes nowhere */
    for (size_t i = 0; i < ranges && error == BROKER_OK && !total.next_seq; i++) {
        broker_scan_result one = {0};
        if (s->range_count) {
            s->scan.from_seq = s->ranges[i].first;
            s->scan.to_seq = s->ranges[i].last;
        }
        state.before = total;
        error = broker_scan(cli->broker, job->queue, job->dry_run ? BROKER_SCAN_COUNT : job->action, &s->scan,
                            on_progress, &state, &one);
        total.matched += one.matched;
        total.skipped += one.skipped;
        total.next_seq = one.next_seq;
    }
    if (state.drawn)
        fprintf(stderr, "\r\033[K");
    bool stopped = cli_interrupted && (error == BROKER_OK || error == BROKER_CANCELLED);
    if (error != BROKER_OK && !stopped) {
        if (total.matched)
            return cli_fail(cli, error, "%s queue '%s' (%" PRIu64 " %s before)", job->verb, job->queue, total.matched,
                            job->done);
        return cli_fail(cli, error, "%s queue '%s'", job->verb, job->queue);
    }
    struct text out = {0};
    print_result(cli, &out, job, &total);
    if (!cli_print(cli, &out) || stopped)
        return CLI_FAILED;
    if (s->range_count && total.matched + total.skipped == 0)
        return cli_fail_saying(cli, BROKER_MESSAGE_NOT_FOUND, "none of these is there", "%s queue '%s'", job->verb,
                               job->queue);
    return CLI_OK;
}
