/* Reading UTF-8 strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#include "utf8.h"
#include <stdint.h>
#include <string.h>

Utf8 utf8_next(const char *text, size_t bytes, size_t *length) {
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
    size_t more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    *length = 1;
    if ((s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4) return UTF8_INVALID;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    for (; *length <= more; ++*length, low = 0x80, high = 0xbf) {
        if (*length == bytes) return UTF8_CUT;
        if (s[*length] < low || s[*length] > high) return UTF8_INVALID;
    }
    return UTF8_VALID;
}

size_t utf8_valid(const char *text, size_t bytes) {
    size_t at = 0, length;
    while (at < bytes) {
        uint64_t word;
        while (bytes - at >= sizeof word &&
               (memcpy(&word, text + at, sizeof word), !(word & 0x8080808080808080u)))
            at += sizeof word;
        if (at == bytes || utf8_next(text + at, bytes - at, &length) != UTF8_VALID) break;
        at += length;
    }
    return at;
}
