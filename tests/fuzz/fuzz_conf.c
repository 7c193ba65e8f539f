/* Configuration: files, single assignments, addresses, and command lines that nobody sane would write. */
#include "conf.h"
#include "fuzz.h"

static void check_error(bool good, const char *error)
{
    CHECK(good || (strlen(error) > 0 && strlen(error) < CONF_ERROR_BYTES));
}

static void parse_file(struct conf *c, struct input *in)
{
    char error[CONF_ERROR_BYTES] = "";
    size_t len;
    char *text = (char *)input_copy(in, in->len, &len);

    bool good = conf_parse(c, "fuzz.ini", text, len, error);
    check_error(good, error);
    if (good)
        check_error(conf_check(c, error), error);
    free(text);
}

static char *input_text(struct input *in, size_t n)
{
    size_t len;
    char *bytes = (char *)input_copy(in, n, &len);
    char *text = malloc(len + 1);

    if (!text)
        abort();
    memcpy(text, bytes, len);
    text[len] = '\0';
    free(bytes);
    return text;
}

static void assign(struct conf *c, struct input *in)
{
    char error[CONF_ERROR_BYTES] = "";
    char *text = input_text(in, in->len);

    check_error(conf_set(c, text, error), error);
    free(text);
}

static void addresses(struct input *in)
{
    char host[256], port[16], error[CONF_ERROR_BYTES] = "";
    char *text = input_text(in, in->len);
    const char *list = text;
    int r;

    while ((r = conf_next_address(&list, host, port, error)) == 1)
        CHECK(strlen(host) < sizeof(host) && strlen(port) < sizeof(port) && list >= text);
    check_error(r == 0, error);
    free(text);
}

static void command_line(struct conf *c, struct input *in)
{
    enum { WORDS = 8 };
    char *argv[WORDS + 2] = {(char *)"brokerd"};
    char error[CONF_ERROR_BYTES] = "";
    struct conf_args args = {0};
    int argc = 1;

    while (in->len > 0 && argc <= WORDS) {
        const uint8_t *end = memchr(in->bytes, '\n', in->len);
        size_t len = end ? (size_t)(end - in->bytes) : in->len;
        bool file = len >= 1 && in->bytes[0] == '-' && in->bytes[1 % len] == 'c'; /* reads files: not here */
        argv[argc] = input_text(in, len);
        if (in->len > 0)
            input_number(in, 1);
        if (file || strncmp(argv[argc], "--c", 3) == 0)
            free(argv[argc]);
        else
            argc++;
    }
    argv[argc] = NULL;
    check_error(conf_args(c, argc, argv, &args, error), error);
    for (int i = 1; i < argc; i++)
        free(argv[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {bytes, len};
    struct conf c;
    char error[CONF_ERROR_BYTES] = "";

    if (!conf_init(&c, error))
        abort();
    switch (input_number(&in, 1) % 4) {
    case 0: parse_file(&c, &in); break;
    case 1: assign(&c, &in); break;
    case 2: addresses(&in); break;
    default: command_line(&c, &in); break;
    }
    conf_release(&c);
    return 0;
}
