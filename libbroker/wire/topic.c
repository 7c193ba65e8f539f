/* Topics and their patterns: tokens separated by dots, after NATS's subjects. */
#include "wire.h"

static bool is_token_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static size_t token_len(const char *at, size_t left)
{
    const char *dot = left ? memchr(at, '.', left) : NULL;
    return dot ? (size_t)(dot - at) : left;
}

static bool token_is_valid(const char *token, size_t len, bool last, bool pattern)
{
    if (pattern && len == 1 && (token[0] == '*' || (token[0] == '>' && last)))
        return true;
    for (size_t i = 0; i < len; i++)
        if (!is_token_char(token[i]))
            return false;
    return len > 0;
}

static bool tokens_are_valid(const char *topic, size_t len, bool pattern)
{
    if (len == 0 || len > TOPIC_MAX_BYTES)
        return false;
    size_t at = 0;
    for (uint32_t tokens = 1;; tokens++) {
        size_t n = token_len(topic + at, len - at);
        bool last = at + n == len;
        if (tokens > TOPIC_MAX_TOKENS || !token_is_valid(topic + at, n, last, pattern))
            return false;
        if (last)
            return true;
        at += n + 1;
    }
}

bool topic_is_valid(const char *topic, size_t len)
{
    return tokens_are_valid(topic, len, false);
}

bool topic_pattern_is_valid(const char *pattern, size_t len)
{
    return tokens_are_valid(pattern, len, true);
}

bool topic_matches(const char *pattern, size_t pattern_len, const char *topic, size_t topic_len)
{
    size_t p = 0, t = 0;
    while (p < pattern_len && t < topic_len) {
        size_t pn = token_len(pattern + p, pattern_len - p), tn = token_len(topic + t, topic_len - t);
        if (pn == 1 && pattern[p] == '>')
            return true;
        if (!(pn == 1 && pattern[p] == '*') && (pn != tn || memcmp(pattern + p, topic + t, pn) != 0))
            return false;
        p += pn + 1;
        t += tn + 1;
    }
    return p == pattern_len + 1 && t == topic_len + 1;
}
