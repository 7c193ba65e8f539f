#include "headers.h"

#include <string.h>

bool headers_add(struct header_list *out, const char *name, size_t name_len, const char *value, size_t value_len)
{
    size_t need = name_len + value_len + 2;
    if (out->count == ARG_LIST_MAX || need > sizeof out->text - out->used)
        return false;
    char *at = out->text + out->used;
    memcpy(at, name, name_len);
    at[name_len] = '\0';
    memcpy(at + name_len + 1, value, value_len);
    at[name_len + 1 + value_len] = '\0';
    out->items[out->count++] = (broker_header){.name = at, .value = at + name_len + 1};
    out->used += need;
    return true;
}

bool headers_split(struct cli *cli, const char *option, const struct arg_list *list, const char *separators,
                   struct header_list *out)
{
    out->count = out->used = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *item = list->items[i], *middle = strpbrk(item, separators);
        if (!middle || middle == item) {
            cli_complain(cli, CLI_USAGE, "--%s: '%s' is not NAME%cVALUE", option, item, *separators);
            return false;
        }
        const char *value = middle + 1 + (*middle == ':' && middle[1] == ' ');
        if (!headers_add(out, item, (size_t)(middle - item), value, strlen(value))) {
            cli_complain(cli, CLI_USAGE, "--%s: all headers together are longer than %zu bytes", option,
                         sizeof out->text);
            return false;
        }
    }
    return true;
}
