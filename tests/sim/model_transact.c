/* Transactions: publishes to several queues and acks, all or nothing. */
#include <inttypes.h>

#include "model.h"

static bool is_stored(const struct op *op)
{
    return op->record_count == 0 || op->records[0].seq != 0;
}

/* Acks happen with the publishes, in one batch; a retry of one that was done before does nothing. */
void transact_applied(struct model *m, struct op *op)
{
    if (op->applied || !is_stored(op))
        return;
    op->applied = true;
    struct atom *a = atom_new(m, op->step_index);
    for (uint32_t i = 0; i < op->receipt_count; i++) {
        const struct op_receipt *r = &op->receipts[i];
        if (r->fate == RECEIPT_STALE) {
            model_fail(m, "transaction #%u: receipt %" PRIx64 " is stale, and all was done", op->correlation,
                       r->receipt);
            return;
        }
        atom_settle(m, a, r->queue, r->group, r->seq);
        queue_mark_gone(m, &m->queues[r->queue]);
    }
    for (uint32_t i = 0; i < op->record_count; i++) {
        if (op->records[i].seq == 0 && !(op->records[i].queue == BY_TOPIC && op->unroutable_ok))
            model_fail(m, "transaction #%u: message %u of %u was not stored", op->correlation, i, op->record_count);
        if (op->records[i].index != op->step_index && op->records[i].seq != 0)
            model_fail(m, "transaction #%u: in batches %" PRIu64 " and %" PRIu64, op->correlation, op->records[i].index,
                       op->step_index);
    }
}

static void transact_refused(struct model *m, const struct op *op)
{
    bool may_be_stale = false;
    for (uint32_t i = 0; i < op->receipt_count; i++)
        may_be_stale |= op->receipts[i].fate != RECEIPT_LIVE;
    for (uint32_t i = 0; i < op->record_count; i++) {
        const struct op_record *r = &op->records[i];
        if (r->seq != 0)
            model_fail(m, "transaction #%u: refused with %s, but message %u was stored", op->correlation,
                       broker_error_name(op->error), i);
    }
    if (op->error == BROKER_STALE_RECEIPT && !may_be_stale)
        model_fail(m, "transaction #%u: no receipt is stale, and one is said to be", op->correlation);
    if (op->error == BROKER_QUEUE_FULL && !op->may_be_full)
        model_fail(m, "transaction #%u: no queue is full, and one is said to be", op->correlation);
}

void transact_completed(struct model *m, struct op *op, const struct completion *c)
{
    if (c->error) {
        if (!op->submitting && refusal_is_plain(c->error))
            return;
        transact_refused(m, op);
        return;
    }
    if (c->u.transact.count != op->record_count)
        model_fail(m, "transaction #%u: %zu numbers for %u messages", op->correlation, c->u.transact.count,
                   op->record_count);
    for (uint32_t i = 0; i < op->record_count && !model_failed(m); i++) {
        struct op_record *r = &op->records[i];
        struct publish_result result = {.duplicate = c->u.transact.duplicate, .routed = r->queue == BY_TOPIC};
        result.first_seq = c->u.transact.seqs[i];
        record_answered(m, op, r, &result, c->u.transact.seqs[i]);
    }
    if (op->record_count == 0 && c->u.transact.duplicate)
        model_fail(m, "transaction #%u: without messages, and said to be a retry", op->correlation);
    model_confirm_index(m, op->asked, op->step_index);
    m->transactions++;
}
