/* The types of PTX, and pools of memory. */
#include "emu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const TypeInfo types[T_COUNT] = {
    [T_NONE] = {"none", 0, ' '},     [T_PRED] = {"pred", 0, 'p'},     [T_B8] = {"b8", 1, 'b'},
    [T_U8] = {"u8", 1, 'u'},         [T_S8] = {"s8", 1, 's'},         [T_B16] = {"b16", 2, 'b'},
    [T_U16] = {"u16", 2, 'u'},       [T_S16] = {"s16", 2, 's'},       [T_B32] = {"b32", 4, 'b'},
    [T_U32] = {"u32", 4, 'u'},       [T_S32] = {"s32", 4, 's'},       [T_B64] = {"b64", 8, 'b'},
    [T_U64] = {"u64", 8, 'u'},       [T_S64] = {"s64", 8, 's'},       [T_B128] = {"b128", 16, 'b'},
    [T_F16] = {"f16", 2, 'f'},       [T_BF16] = {"bf16", 2, 'f'},     [T_F16X2] = {"f16x2", 4, 'f'},
    [T_BF16X2] = {"bf16x2", 4, 'f'}, [T_TF32] = {"tf32", 4, 'f'},     [T_F32] = {"f32", 4, 'f'},
    [T_F64] = {"f64", 8, 'f'},       [T_E4M3] = {"e4m3", 1, 'f'},     [T_E5M2] = {"e5m2", 1, 'f'},
    [T_E4M3X2] = {"e4m3x2", 2, 'f'}, [T_E5M2X2] = {"e5m2x2", 2, 'f'}, [T_U4] = {"u4", 0, 'u'},
    [T_S4] = {"s4", 0, 's'},         [T_B1] = {"b1", 0, 'b'},
};


Type type_of(const char *word) {
    for (int t = T_PRED; t < T_COUNT; t++)
        if (!strcmp(types[t].name, word)) return (Type)t;
    return T_NONE;
}

struct PoolBlock {
    struct PoolBlock *next;
    u64 used, size;
};
enum { POOL_BLOCK = 1 << 16, POOL_ALIGN = 64 };

void *pool_alloc(Pool *pool, u64 bytes) {
    bytes = (bytes + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
    struct PoolBlock *b = pool->blocks;
    if (!b || b->size - b->used < bytes) {
        u64 size = bytes > POOL_BLOCK ? bytes : POOL_BLOCK;
        if (!(b = aligned_alloc(POOL_ALIGN, POOL_ALIGN + size))) {
            fprintf(stderr, "tbc-emulator: out of memory\n");
            abort();
        }
        *b = (struct PoolBlock){.next = pool->blocks, .size = size};
        pool->blocks = b;
    }
    void *p = (u8 *)b + POOL_ALIGN + b->used;
    b->used += bytes;
    return memset(p, 0, bytes);
}

char *pool_string(Pool *pool, const char *text, u64 length) {
    char *s = pool_alloc(pool, length + 1);
    memcpy(s, text, length);
    return s;
}

void pool_free(Pool *pool) {
    for (struct PoolBlock *b = pool->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    pool->blocks = NULL;
}
