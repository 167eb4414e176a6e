/* Kernels of pure instructions: d[l] = f(a[l], b[l], c[l]) over all 32 lanes, also the inactive ones, whose
 * results are dropped; so they must be defined for any input. Container C is u32, u64, float or double; T is
 * how it is read. */
#ifndef ALU_H
#define ALU_H
#include "ptx.h"

#define KERNEL(name) static void name(void *D, const void *A_, const void *B_, const void *C_, const Ins *ins)
#define UNUSED_ARGS  (void)A_, (void)B_, (void)C_, (void)ins
#define LANE_LOOP    _Pragma("GCC ivdep") for (int l = 0; l < LANES; l++)

#define K1(name, C, T, expr)                                                                                 \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        C *d = D;                                                                                            \
        const C *pa = A_;                                                                                    \
        LANE_LOOP {                                                                                          \
            T a = (T)pa[l];                                                                                  \
            d[l] = (C)(expr);                                                                                \
        }                                                                                                    \
    }
#define K2(name, C, T, expr)                                                                                 \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        C *d = D;                                                                                            \
        const C *pa = A_, *pb = B_;                                                                          \
        LANE_LOOP {                                                                                          \
            T a = (T)pa[l], b = (T)pb[l];                                                                    \
            d[l] = (C)(expr);                                                                                \
        }                                                                                                    \
    }
#define K3(name, C, T, expr)                                                                                 \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        C *d = D;                                                                                            \
        const C *pa = A_, *pb = B_, *pc = C_;                                                                \
        LANE_LOOP {                                                                                          \
            T a = (T)pa[l], b = (T)pb[l], c = (T)pc[l];                                                      \
            d[l] = (C)(expr);                                                                                \
        }                                                                                                    \
    }
/* operands and result of different containers */
#define K1X(name, DC, AC, expr)                                                                              \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        DC *d = D;                                                                                           \
        const AC *pa = A_;                                                                                   \
        LANE_LOOP {                                                                                          \
            AC a = pa[l];                                                                                    \
            d[l] = (DC)(expr);                                                                               \
        }                                                                                                    \
    }
#define K2X(name, DC, AC, BC, expr)                                                                          \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        DC *d = D;                                                                                           \
        const AC *pa = A_;                                                                                   \
        const BC *pb = B_;                                                                                   \
        LANE_LOOP {                                                                                          \
            AC a = pa[l];                                                                                    \
            BC b = pb[l];                                                                                    \
            d[l] = (DC)(expr);                                                                               \
        }                                                                                                    \
    }
#define K3X(name, DC, AC, BC, CC, expr)                                                                      \
    KERNEL(name) {                                                                                           \
        UNUSED_ARGS;                                                                                         \
        DC *d = D;                                                                                           \
        const AC *pa = A_;                                                                                   \
        const BC *pb = B_;                                                                                   \
        const CC *pc = C_;                                                                                   \
        LANE_LOOP {                                                                                          \
            AC a = pa[l];                                                                                    \
            BC b = pb[l];                                                                                    \
            CC c = pc[l];                                                                                    \
            d[l] = (DC)(expr);                                                                               \
        }                                                                                                    \
    }
#endif
