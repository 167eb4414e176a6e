/* seal FILE: appends the trailer of tbc_module.h, which makes a module built by hand one that loads. */
#include "../runtime/tbc_module.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "r+b") : NULL;
    if (!file) return 1;
    tbc_trailer trailer = {.hash = 0xcbf29ce484222325u, .magic = "tbc-end"};
    unsigned char word[8];
    size_t n;
    while ((n = fread(word, 1, sizeof word, file)) > 0) {
        uint64_t value;
        memcpy(&value, word, sizeof value);
        if (n == sizeof word) trailer.hash = (trailer.hash ^ value) * 0x100000001b3u;
        for (size_t i = 0; i < n && n < sizeof word; i++)
            trailer.hash = (trailer.hash ^ word[i]) * 0x100000001b3u;
        trailer.bytes += n;
    }
    fseek(file, 0, SEEK_END);
    return fwrite(&trailer, sizeof trailer, 1, file) != 1 || fclose(file) != 0;
}
