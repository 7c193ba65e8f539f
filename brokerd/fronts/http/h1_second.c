#include <llhttp.h>

#include "h1_second.h"

static int on_url(llhttp_t *p, const char *at, size_t len)
{
    struct second_opinion *o = p->data;
    o->target_len += len;
    return 0;
}

static int on_field_complete(llhttp_t *p)
{
    struct second_opinion *o = p->data;
    o->fields++;
    return 0;
}

static int on_headers_complete(llhttp_t *p)
{
    struct second_opinion *o = p->data;
    o->has_length = p->flags & F_CONTENT_LENGTH;
    o->is_chunked = p->flags & F_CHUNKED;
    o->content_length = p->content_length;
    o->major = p->http_major;
    o->minor = p->http_minor;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_value_complete = on_field_complete,
    .on_headers_complete = on_headers_complete,
};

void second_opinion(const char *bytes, size_t len, struct second_opinion *out)
{
    llhttp_t parser;
    *out = (struct second_opinion){0};
    llhttp_init(&parser, HTTP_REQUEST, &settings); /* strict: no lenient flag is set */
    parser.data = out;
    llhttp_errno_t error = llhttp_execute(&parser, bytes, len);
    if (error == HPE_PAUSED)
        return;
    const char *reason = llhttp_get_error_reason(&parser);
    out->error = error == HPE_OK ? "the head has no end" : reason && *reason ? reason : llhttp_errno_name(error);
}
