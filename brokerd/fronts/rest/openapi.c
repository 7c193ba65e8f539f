/* The interface for programs: openapi.json, as it stands in the tree, inside the program. */
#include "admin_internal.h"

/* OPENAPI_FILE is the file's path: CMakeLists.txt. */
__asm__(".pushsection .rodata\n"
        ".globl openapi_json\n"
        ".globl openapi_json_end\n"
        "openapi_json:\n"
        ".incbin \"" OPENAPI_FILE "\"\n"
        "openapi_json_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char openapi_json[], openapi_json_end[];

const char *openapi_text(size_t *len)
{
    *len = (size_t)(openapi_json_end - openapi_json);
    return openapi_json;
}

void openapi_get(void *arg, struct http_exchange *x, const struct http_request *q)
{
    size_t len;
    const char *text = openapi_text(&len);
    http_respond(x, &(struct http_response){.status = 200, .type = "application/json", .body = text, .body_len = len});
}
