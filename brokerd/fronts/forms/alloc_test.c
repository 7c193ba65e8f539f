/* Each allocation fails once in turn: the call says so, what it appends to is as before, and the next try succeeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "forms_internal.h"
#include "test_alloc.h"

/* ---- what is tried --------------------------------------------------------------------------------------------------------- */

struct fixture {
    struct buf out, record;
    msgpack_sbuffer packed, source; /* source: what `unpacked` points into */
    msgpack_unpacked unpacked;
    json_t *message, *value;
    char text[FORM_TEXT_BYTES];
};

static const char message[] = "{\"body_json\":{\"a\":[1,\"two\",0.5]},\"key_base64\":\"/w==\",\"id_base64\":\"/w==\","
                              "\"headers\":{\"long\":\"%01200d\"}}";

static bool out_json(struct fixture *f)
{
    return form_message_json(&f->out, &(struct form_message){.record = f->record.bytes, .seq = 1});
}

static bool out_msgpack(struct fixture *f)
{
    return form_message_msgpack(&f->out, &(struct form_message){.record = f->record.bytes, .seq = 1});
}

static bool record(struct fixture *f)
{
    broker_error error = form_record_json(&f->out, f->message, f->text);
    assert_true(error == BROKER_OK || error == BROKER_NO_MEMORY);
    assert_true(error == BROKER_OK || strstr(f->text, "out of memory"));
    return error == BROKER_OK;
}

static bool to_msgpack(struct fixture *f)
{
    size_t size = f->packed.size;
    broker_error error = form_json_to_msgpack(&f->packed, f->message, f->text);
    assert_true(error == BROKER_OK || error == BROKER_NO_MEMORY);
    assert_true(error == BROKER_OK || f->packed.size == size);
    return error == BROKER_OK;
}

static bool to_json(struct fixture *f)
{
    return form_msgpack_to_json(&f->out, &f->unpacked.data);
}

static bool parse(struct fixture *f)
{
    f->value = form_json_parse(message, sizeof(message) - 1, f->text);
    bool good = f->value != NULL;
    /* jansson takes a token that it has no memory for for one that is misplaced, and says that. */
    assert_true(good || strstr(f->text, "out of memory") || strstr(f->text, "no JSON: line "));
    json_decref(f->value);
    return good;
}

/* ---- */

static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char *text = malloc(4096);
    size_t offset = 0;
    assert_non_null(f);
    assert_non_null(text);
    int n = snprintf(text, 4096, message, 7);
    buf_init(&f->out, 0);
    buf_init(&f->record, 0);
    msgpack_sbuffer_init(&f->packed);
    msgpack_unpacked_init(&f->unpacked);
    f->message = form_json_parse(text, (size_t)n, f->text);
    assert_non_null(f->message);
    assert_int_equal(form_record_json(&f->record, f->message, f->text), BROKER_OK);
    msgpack_sbuffer_init(&f->source);
    assert_int_equal(form_json_to_msgpack(&f->source, f->message, f->text), BROKER_OK);
    assert_int_equal(msgpack_unpack_next(&f->unpacked, f->source.data, f->source.size, &offset),
                     MSGPACK_UNPACK_SUCCESS);
    free(text);
    return f;
}

static void fixture_free(struct fixture *f)
{
    json_decref(f->message);
    msgpack_unpacked_destroy(&f->unpacked);
    msgpack_sbuffer_destroy(&f->packed);
    msgpack_sbuffer_destroy(&f->source);
    buf_release(&f->out);
    buf_release(&f->record);
    free(f);
}

static void memory_may_end_anywhere(void **state)
{
    static const struct {
        const char *name;
        bool (*run)(struct fixture *f);
        bool needs; /* it cannot do without an allocation */
    } tries[] = {{"out_json", out_json, true},     {"out_msgpack", out_msgpack, true}, {"record", record, true},
                 {"to_msgpack", to_msgpack, true}, {"to_json", to_json, true},         {"parse", parse, true}};
    json_set_alloc_funcs(test_alloc_malloc, free);
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        uint64_t failed = 0;
        for (bool done = false; !done; failed++) {
            struct fixture *f = fixture_new();
            assert_true(form_put(&f->out, "before"));
            test_alloc_calls = 0;
            test_alloc_fail_at = failed + 1;
            done = tries[i].run(f);
            test_alloc_fail_at = 0;
            if (!done) {
                assert_int_equal(f->out.len, 6);
                assert_memory_equal(f->out.bytes, "before", 6);
                assert_true(tries[i].run(f));
            }
            fixture_free(f);
        }
        if (failed < 2)
            fail_msg("%s: nothing failed", tries[i].name);
    }
    json_set_alloc_funcs(malloc, free);
}

/* The header's JSON is put together while the message is. */
static void memory_may_end_in_a_header(void **state)
{
    static const char headers[] = "\x81\xa1n\x93\x01\x02\x03";
    struct record_spec spec = {.headers = headers, .headers_len = sizeof(headers) - 1};
    struct buf records, out;
    char text[FORM_TEXT_BYTES];
    buf_init(&records, 0);
    assert_int_equal(form_record(&records, &spec, NULL, 0, text), BROKER_OK);
    struct form_message m = {.record = records.bytes};
    buf_init(&out, 0);
    assert_true(form_message_json(&out, &m));
    for (size_t max = 0; max < out.len + 1024; max++) { /* a ceiling is met as the end of memory is */
        struct buf small;
        buf_init(&small, max + 1);
        bool good = form_message_json(&small, &m);
        assert_int_equal(small.len, good ? out.len : 0);
        buf_release(&small);
    }
    buf_release(&records);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_may_end_anywhere),
        cmocka_unit_test(memory_may_end_in_a_header),
    };
    return cmocka_run_group_tests_name("forms_alloc", tests, NULL, NULL);
}
