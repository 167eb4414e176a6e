/* seal FILE: appends the trailer of tbc_module.h, which makes a module built by hand one that loads. */
#include "../runtime/tbc_module.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "r+b") : NULL;
    if (!file || fseek(file, 0, SEEK_END)) return 1;
    long size = ftell(file);
    char *bytes = size > 0 ? malloc((size_t)size) : NULL;
    rewind(file);
    if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size) return 1;
    tbc_trailer trailer = {tbc_hash(bytes, (size_t)size), (uint64_t)size, "tbc-end"};
    free(bytes);
    fseek(file, 0, SEEK_END);
    return fwrite(&trailer, sizeof trailer, 1, file) != 1 || fclose(file) != 0;
}
