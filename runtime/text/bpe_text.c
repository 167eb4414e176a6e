/* Cutting a text into words. The text goes through a window: normalised, as much as the regular expression
 * needs to see for the next word. A match that touches the window's end (PCRE2_PARTIAL_HARD tells) is tried
 * again with more text. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "bpe_text.h"
#include "../error.h"
#include "regex_dialect.h"
#include "utf8.h"
#include "word_cache.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    BLOCK = 1 << 16, /* bytes that enter the window at least */
    BATCH = 1 << 12, /* ids put together */
    FIRST_STACK = 1 << 15,
    LAST_STACK = 1 << 24 /* of the compiled regular expression */
};

/* ---- the tokenizer */

static bool not_understood(const char *path, const char *pattern, int code) {
    PCRE2_UCHAR why[256];
    pcre2_get_error_message(code, why, sizeof why);
    return rt_error(path, "pre_tokenizer: the regular expression '%s' is not understood: %s", pattern,
                    (const char *)why);
}

bool bpe_text_regex(BpeTokenizer *t, const char *path, const char *pattern) {
    int code;
    size_t at;
    uint32_t empty;
    char *translated = regex_translate(path, pattern);
    if (!translated) return false;
    t->regex = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    free(translated);
    if (!t->regex) return not_understood(path, pattern, code);
    pcre2_pattern_info(t->regex, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty)
        return rt_error(
            path,
            "pre_tokenizer: the regular expression '%s' matches nothing as well (expected one that "
            "takes at least a character)",
            pattern);
    /* Where there is no JIT compiler for this machine, pcre2_match interprets. */
    pcre2_jit_compile(t->regex, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    pcre2_pattern_info(t->regex, PCRE2_INFO_MAXLOOKBEHIND, &t->lookbehind);
    return true;
}

/* By first byte, longest first. */
static int compare_added(const void *left, const void *right) {
    const AddedToken *a = left, *b = right;
    int first = (unsigned char)a->text[0] - (unsigned char)b->text[0];
    return first ? first : (a->bytes < b->bytes) - (a->bytes > b->bytes);
}

void bpe_text_finish(BpeTokenizer *t) {
    if (t->nadded) qsort(t->added, t->nadded, sizeof *t->added, compare_added);
    uint32_t i = 0;
    for (int c = 0; c <= 256; c++) {
        while (i < t->nadded && (unsigned char)t->added[i].text[0] < c) i++;
        t->added_from[c] = i;
    }
}

void bpe_text_close(BpeTokenizer *t) {
    bpe_close(&t->bpe);
    pcre2_code_free(t->regex);
    free(t->texts), free(t->added);
    *t = (BpeTokenizer){0};
}

/* ---- words to ids */

typedef struct Encoder {
    const BpeTokenizer *t;
    TokenSink *sink;
    int32_t batch[BATCH];
    size_t batch_n;

    char *window; /* text; its words up to `from` are done */
    size_t from, to, room;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    utf8proc_int32_t *chars; /* where text is normalised */
    size_t chars_room;

    WordCache cache;
    BpeScratch scratch;
    int32_t *ids; /* of a word */
    size_t ids_room;
} Encoder;

static bool flush(Encoder *e) {
    size_t n = e->batch_n;
    e->batch_n = 0;
    return n == 0 || e->sink->put(e->sink, e->batch, n);
}

static bool put(Encoder *e, const int32_t *ids, size_t n) {
    if (n > BATCH - e->batch_n && !flush(e)) return false;
    if (n > BATCH) return e->sink->put(e->sink, ids, n);
    for (size_t i = 0; i < n; i++) e->batch[e->batch_n + i] = ids[i];
    e->batch_n += n;
    return true;
}

static bool word(Encoder *e, const char *text, size_t bytes) {
    size_t n;
    const int32_t *known = word_cache_find(&e->cache, text, bytes, &n);
    if (known) return put(e, known, n);
    if (bytes > BPE_MAX_WORD)
        return rt_error(NULL, "a word of more than %zu bytes cannot be tokenized", BPE_MAX_WORD);
    if (bytes > e->ids_room) {
        e->ids_room = 2 * bytes;
        e->ids = rt_realloc(e->ids, e->ids_room * sizeof *e->ids);
    }
    n = bpe_encode(&e->t->bpe, &e->scratch, text, bytes, e->ids);
    word_cache_add(&e->cache, text, bytes, e->ids, n);
    return put(e, e->ids, n);
}

/* ---- the window */

static void reserve(Encoder *e, size_t more) {
    if (e->room - e->to >= more) return;
    e->room = 2 * (e->to + more);
    e->window = rt_realloc(e->window, e->room);
}

static void append(Encoder *e, const char *text, size_t bytes) {
    if (bytes == 0) return;
    reserve(e, bytes);
    memcpy(e->window + e->to, text, bytes);
    e->to += bytes;
}

static bool append_composed(Encoder *e, const char *text, size_t bytes) {
    const utf8proc_option_t nfc = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t n;
    for (;;) {
        n = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, e->chars,
                               (utf8proc_ssize_t)e->chars_room, nfc);
        if (n >= 0 && (size_t)n < e->chars_room) break; /* with one to spare, which reencode needs */
        if (n < 0) return rt_error(NULL, "text cannot be normalised: %s", utf8proc_errmsg(n));
        e->chars_room = 2 * (size_t)n + 64;
        e->chars = rt_realloc(e->chars, e->chars_room * sizeof *e->chars);
    }
    n = utf8proc_reencode(e->chars, n, nfc);
    if (n < 0) return rt_error(NULL, "text cannot be normalised: %s", utf8proc_errmsg(n));
    append(e, (const char *)e->chars, (size_t)n);
    return true;
}

/* utf8proc 2.8 drops U+11A7 after a Hangul syllable, since it comes just before the first trailing consonant.
 * In truth it composes with nothing, so that what is around it can be composed without it. */
static bool append_stretch(Encoder *e, const char *text, size_t bytes) {
    static const char no_consonant[] = "\xe1\x86\xa7";
    const size_t width = sizeof no_consonant - 1;
    for (const char *found; (found = memmem(text, bytes, no_consonant, width));) {
        size_t n = (size_t)(found - text);
        if (n > 0 && !append_composed(e, text, n)) return false;
        append(e, no_consonant, width);
        text += n + width, bytes -= n + width;
    }
    return bytes == 0 || append_composed(e, text, bytes);
}

/* Characters below U+0300 stand for themselves, and ASCII ones compose with nothing before them. So only
 * stretches without ASCII that have a byte of 0xcc (the first of U+0300) or more need work, together with the
 * character before. */
static bool append_normalised(Encoder *e, const char *text, size_t bytes) {
    const unsigned char *s = (const unsigned char *)text;
    size_t done = 0;
    while (done < bytes) {
        size_t at = done;
        while (at < bytes && s[at] < 0xcc) at++;
        size_t end = at;
        while (end < bytes && s[end] >= 0x80) end++;
        while (at < end && at > done && s[at] >= 0x80) at--;
        append(e, text + done, at - done);
        if (!append_stretch(e, text + at, end - at)) return false;
        done = end;
    }
    return true;
}

/* Drops the words that are done, but for what the regular expression looks back at. */
static void compact(Encoder *e) {
    size_t keep = e->from;
    for (uint32_t i = 0; i < e->t->lookbehind && keep; i++) do
            keep--;
        while (keep && ((unsigned char)e->window[keep] & 0xc0) == 0x80);
    if (!keep) return;
    memmove(e->window, e->window + keep, e->to - keep);
    e->from -= keep, e->to -= keep;
}

/* Moves text from *at on into the window: as much as is there already (a long word must not be matched again
 * and again for little more), up to the end or the first byte that is not UTF-8, which sets *last. */
static bool refill(Encoder *e, const char **at, const char *end, bool *last) {
    compact(e);
    size_t left = (size_t)(end - *at), n = e->to - e->from > BLOCK ? e->to - e->from : BLOCK;
    if (n > left) n = left;
    while (n < left && (unsigned char)(*at)[n] >= 0x80) n++; /* nothing composes across this */
    size_t valid = utf8_valid(*at, n);
    const char *text = *at;
    *last = valid < n || n == left;
    *at += valid;
    if (e->t->nfc) return append_normalised(e, text, valid);
    append(e, text, valid);
    return true;
}

/* Encodes the words of the window, but, unless it is the last one, those that could be other words if more
 * text came. */
static bool encode_window(Encoder *e, bool last) {
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (last ? 0 : PCRE2_PARTIAL_HARD);
    const size_t *range = pcre2_get_ovector_pointer(e->match);
    while (e->from < e->to) {
        int found =
            pcre2_match(e->t->regex, (PCRE2_SPTR)e->window, e->to, e->from, options, e->match, e->context);
        size_t gap = e->to; /* up to where nothing matches */
        if (found > 0)
            gap = range[0];
        else if (found != PCRE2_ERROR_NOMATCH && found != PCRE2_ERROR_PARTIAL)
            return rt_error(NULL, "matching the tokenizer's regular expression failed (PCRE2 error %d)",
                            found);
        else if (!last)
            return true;
        if (gap > e->from && !word(e, e->window + e->from, gap - e->from)) return false;
        e->from = gap;
        if (found > 0 && !word(e, e->window + gap, range[1] - gap)) return false;
        if (found > 0) e->from = range[1];
    }
    return true;
}

/* ---- texts */

/* Skips what is not UTF-8. */
static const char *skip_invalid(const char *at, const char *end) {
    while (at < end && utf8_valid(at, end - at < 4 ? (size_t)(end - at) : 4) == 0) at++;
    return at;
}

/* A text without added tokens. */
static bool encode_plain(Encoder *e, const char *at, const char *end) {
    while (at < end) {
        bool last = false;
        e->from = e->to = 0;
        while (!last)
            if (!refill(e, &at, end, &last) || !encode_window(e, last)) return false;
        const char *start = at;
        at = skip_invalid(at, end);
        if (at > start && !word(e, start, (size_t)(at - start))) return false;
    }
    return true;
}

/* The added token of one of the two kinds that begins at `at`; NULL: none. */
static const AddedToken *added_at(const BpeTokenizer *t, const char *at, const char *end, bool normalised) {
    const uint32_t *from = &t->added_from[(unsigned char)*at];
    for (uint32_t i = from[0]; i < from[1]; i++) {
        const AddedToken *a = &t->added[i];
        if (a->normalised == normalised && a->bytes <= (size_t)(end - at) && !memcmp(a->text, at, a->bytes))
            return a;
    }
    return NULL;
}

/* Cuts at added tokens; `between` encodes the rest. */
static bool encode_cut(Encoder *e, const char *text, const char *end, bool normalised,
                       bool between(Encoder *, const char *, const char *)) {
    for (const char *at = text; at < end;) {
        const AddedToken *added = added_at(e->t, at, end, normalised);
        if (!added) {
            at++;
            continue;
        }
        if (!between(e, text, at) || !put(e, &added->id, 1)) return false;
        text = at += added->bytes;
    }
    return between(e, text, end);
}

/* Normalises the text as a whole. To do the same again with its parts changes nothing. */
static bool encode_normalised(Encoder *e, const char *at, const char *end) {
    e->from = e->to = 0;
    while (at < end) {
        size_t valid = utf8_valid(at, (size_t)(end - at));
        if (!append_normalised(e, at, valid)) return false;
        const char *next = skip_invalid(at + valid, end);
        append(e, at + valid, (size_t)(next - at) - valid);
        at = next;
    }
    char *text = e->window;
    size_t bytes = e->to;
    e->window = NULL, e->room = e->to = 0;
    bool ok = bytes == 0 || encode_cut(e, text, text + bytes, true, encode_plain);
    free(text);
    return ok;
}

static bool encode_all(Encoder *e, const char *text, const char *end) {
    return encode_cut(e, text, end, false, e->t->added_normalised ? encode_normalised : encode_plain) &&
           flush(e);
}

bool bpe_text_encode(const BpeTokenizer *t, const char *text, size_t bytes, TokenSink *sink) {
    Encoder *e = rt_calloc(1, sizeof *e);
    *e = (Encoder){.t = t,
                   .sink = sink,
                   .match = pcre2_match_data_create_from_pattern(t->regex, NULL),
                   .context = pcre2_match_context_create(NULL),
                   .stack = pcre2_jit_stack_create(FIRST_STACK, LAST_STACK, NULL)};
    bool ok = e->match && e->context;
    if (!ok) rt_error(NULL, "out of memory");
    /* no stack: there is no JIT compiler, or the little that it has on the machine's stack must do */
    if (ok && e->stack) pcre2_jit_stack_assign(e->context, NULL, e->stack);
    ok = ok && encode_all(e, text, text + bytes);
    pcre2_match_data_free(e->match);
    pcre2_match_context_free(e->context);
    pcre2_jit_stack_free(e->stack);
    word_cache_free(&e->cache);
    bpe_scratch_free(&e->scratch);
    free(e->window), free(e->chars), free(e->ids), free(e);
    return ok;
}
