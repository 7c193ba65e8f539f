/*
 * Owns:            text headers as people type them, split into names and values.
 * May use:         cli.h.
 * Never knows:     what they are for.
 * Start reading at headers_split.
 */
#ifndef CLI_HEADERS_H
#define CLI_HEADERS_H

#include "cli.h"

#define HEADERS_BYTES_MAX 8192

struct header_list { /* the items point into the text */
    broker_header items[ARG_LIST_MAX];
    size_t count, used;
    char text[HEADERS_BYTES_MAX];
};

/*
 * headers_split: "NAME:VALUE", also "NAME: VALUE", where `separators` is ":"; each of several separators will do. false:
 * told as a misuse of --`option`.
 */
bool headers_split(struct cli *cli, const char *option, const struct arg_list *list, const char *separators,
                   struct header_list *out);
/* headers_add: false: there is no more room. */
bool headers_add(struct header_list *out, const char *name, size_t name_len, const char *value, size_t value_len);

#endif
