/* Linking. What is linked here is PTX: the texts one after the other are a text again, in which an .extern
 * function or variable of one finds its definition in another. So names are of the whole program, those that
 * are not .visible, too. */
#include "driver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Link {
    struct Link *next;
    char *text; /* ends in 0 */
    size_t n;
} Link;
static Link *links;

static bool is_link(const Link *link) {
    for (const Link *l = links; l; l = l->next)
        if (l == link) return true;
    return false;
}

/* Options are not looked at: what is wrong with the program is said when it is loaded. */
API cuLinkCreate_v2(unsigned n, const int *options, void **values, Link **out) {
    int r = ready();
    if (r) return r;
    if (!out || (n && (!options || !values))) return INVALID_VALUE;
    Link *link = calloc(1, sizeof *link);
    if (!link || !(link->text = calloc(1, 1))) abort();
    link->next = links;
    *out = links = link;
    return OK;
}

enum { INPUT_PTX = 1 };

API cuLinkAddData_v2(Link *link, int type, const void *data, size_t size, const char *name, unsigned n,
                     const int *options, void **values) {
    (void)name, (void)n, (void)options, (void)values;
    if (!is_link(link)) return INVALID_HANDLE;
    if (!data) return INVALID_VALUE;
    if (type != INPUT_PTX) return NO_BINARY_FOR_GPU; /* cubins, fat binaries, objects, libraries */
    size = strnlen(data, size);
    char *text = realloc(link->text, link->n + size + 2);
    if (!text) abort();
    memcpy(text + link->n, data, size);
    link->text = text, link->n += size;
    memcpy(text + link->n++, "\n", 2);
    return OK;
}

API cuLinkAddFile_v2(Link *link, int type, const char *path, unsigned n, const int *options, void **values) {
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) return FILE_NOT_FOUND;
    char *text = NULL;
    size_t size = 0, room = 0, got;
    do {
        if (room - size < 4096) text = realloc(text, room += 65536);
        if (!text) abort();
        size += got = fread(text + size, 1, room - size, f);
    } while (got);
    fclose(f);
    int r = cuLinkAddData_v2(link, type, text, size, path, n, options, values);
    free(text);
    return r;
}

/* The program is the link's, for cuModuleLoadData, which says what is wrong with it. */
API cuLinkComplete(Link *link, void **program, size_t *size) {
    if (!is_link(link)) return INVALID_HANDLE;
    if (!program || !size) return INVALID_VALUE;
    if (!link->n) return INVALID_IMAGE;
    *program = link->text;
    *size = link->n + 1;
    return OK;
}

API cuLinkDestroy(Link *link) {
    for (Link **l = &links; *l; l = &(*l)->next)
        if (*l == link) {
            *l = link->next;
            free(link->text), free(link);
            return OK;
        }
    return INVALID_HANDLE;
}
