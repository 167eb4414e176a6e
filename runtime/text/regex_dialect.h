/* The dialect of regular expressions in a tokenizer.json is Oniguruma's; here PCRE2 matches them. */
#ifndef TBC_RT_REGEX_DIALECT_H
#define TBC_RT_REGEX_DIALECT_H

/* The pattern in PCRE2's dialect: heap. NULL: an error was printed, with the path, that names something in it
 * that means one thing there and another here, or that we do not know to mean the same. */
char *regex_translate(const char *path, const char *pattern);

#endif
