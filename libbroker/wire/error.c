/* The texts of the one table of errors in broker.h. */
#include "wire.h"

const char *broker_strerror(broker_error error)
{
    switch (error) {
#define ERROR_TEXT(name, code, http, retry, text)                                                                      \
    case BROKER_##name: return text;
        BROKER_ERROR_MAP(ERROR_TEXT)
#undef ERROR_TEXT
    }
    return "unknown error"; /* a code of a newer broker */
}

const char *broker_error_name(broker_error error)
{
    switch (error) {
#define ERROR_NAME(name, code, http, retry, text)                                                                      \
    case BROKER_##name: return #name;
        BROKER_ERROR_MAP(ERROR_NAME)
#undef ERROR_NAME
    }
    return "UNKNOWN";
}

bool broker_error_is_retryable(broker_error error)
{
    switch (error) {
#define ERROR_RETRY(name, code, http, retry, text)                                                                     \
    case BROKER_##name: return (retry) != 0;
        BROKER_ERROR_MAP(ERROR_RETRY)
#undef ERROR_RETRY
    }
    return false;
}
