/* Worked examples: for every op a small function, operands, and results worked out by hand. check_ir.c
 * prints and parses them, check_eval.c runs them; an op without an example fails both suites. */
#ifndef TBC_TEST_IR_CASES_H
#define TBC_TEST_IR_CASES_H

#include "../ir/ir.h"

#include <math.h>

enum { CASE_VALUES = 16, CASE_TENSORS = 7 };

typedef struct CaseTensor {
    const char *name; /* of the input, param, state, output or store */
    double at[CASE_VALUES];
} CaseTensor;

typedef struct IrCase {
    Op op;
    const char *body; /* the text between a function's braces, one node a line */
    CaseTensor in[CASE_TENSORS], out[CASE_TENSORS];
} IrCase;

#define IN(id, type, name) "%" #id ": " type " = input {name=\"" name "\"}\n"
#define OUT(id)            "output %" #id " {name=\"y\"}\n"
/* A case of one op on the inputs a (and b). */
#define ONE(op, type, result, rest, ...)                                                                     \
    { OP_##op, IN(0, type, "a") "%1: " result " = " #op " %0" rest "\n" OUT(1), __VA_ARGS__ }
#define TWO(op, ta, tb, result, rest, ...)                                                                   \
    { OP_##op, IN(0, ta, "a") IN(1, tb, "b") "%2: " result " = " #op " %0, %1" rest "\n" OUT(2), __VA_ARGS__ }
#define OF(...)                                                                                              \
    { __VA_ARGS__ }

#define LN3  1.0986122886681098
#define LN4  1.3862943611198906
#define LN10 2.302585092994046

static const IrCase ir_cases[] = {
    /* sources */
    {OP_input, IN(0, "i32[2]", "a") OUT(0), {{"a", {3, 4}}}, {{"y", {3, 4}}}},
    {OP_param, "%0: f32[2,1] = param {name=\"w\", group=128}\n" OUT(0), {{"w", {3, 4}}}, {{"y", {3, 4}}}},
    {OP_state, "%0: f32[] = state {name=\"m\"}\n" OUT(0), {{"m", {3}}}, {{"y", {3}}}},
    {OP_splat, "%0: f32[2,2] = splat {c=0.5}\n" OUT(0), {{0}}, {{"y", {0.5, 0.5, 0.5, 0.5}}}},
    {OP_rope_cos,
     "%0: f32[2,1,4] = rope_cos {theta=100}\n" OUT(0),
     {{0}},
     {{"y", {1, 1, 1, 1, 0.5403023058681398, 0.9950041652780258, 0.5403023058681398, 0.9950041652780258}}}},
    {OP_rope_sin,
     "%0: f32[2,1,4] = rope_sin {theta=100}\n" OUT(0),
     {{0}},
     {{"y", {0, 0, 0, 0, 0.8414709848078965, 0.09983341664682815, 0.8414709848078965, 0.09983341664682815}}}},

    /* element by element */
    TWO(add, "f32[2,3]", "f32[3]", "f32[2,3]", "", {{"a", {1, 2, 3, 4, 5, 6}}, {"b", {10, 20, 30}}},
        {{"y", {11, 22, 33, 14, 25, 36}}}),
    TWO(sub, "f32[2,1]", "f32[1,2]", "f32[2,2]", "", {{"a", {1, 2}}, {"b", {10, 20}}},
        {{"y", {-9, -19, -8, -18}}}),
    TWO(mul, "f32[]", "f32[2,1,2]", "f32[2,1,2]", "", {{"a", {3}}, {"b", {1, 2, 3, 4}}},
        {{"y", {3, 6, 9, 12}}}),
    TWO(div, "f32[2]", "f32[2]", "f32[2]", "", {{"a", {1, -6}}, {"b", {4, 3}}}, {{"y", {0.25, -2}}}),
    ONE(neg, "f32[2]", "f32[2]", "", {{"a", {1, -2}}}, {{"y", {-1, 2}}}),
    ONE(scale, "f32[2]", "f32[2]", " {c=-3}", {{"a", {1, -2}}}, {{"y", {-3, 6}}}),
    ONE(offset, "f32[2]", "f32[2]", " {c=0.5}", {{"a", {1, -2}}}, {{"y", {1.5, -1.5}}}),
    ONE(exp, "f32[2]", "f32[2]", "", {{"a", {0, LN3}}}, {{"y", {1, 3}}}),
    ONE(log, "f32[2]", "f32[2]", "", {{"a", {1, 4}}}, {{"y", {0, LN4}}}),
    ONE(rsqrt, "f32[2]", "f32[2]", "", {{"a", {4, 0.25}}}, {{"y", {0.5, 2}}}),
    ONE(sigmoid, "f32[3]", "f32[3]", "", {{"a", {0, LN3, -1000}}}, {{"y", {0.5, 0.75, 0}}}),
    ONE(stop, "f32[2]", "f32[2]", "", {{"a", {1, -2}}}, {{"y", {1, -2}}}),
    ONE(broadcast, "f32[2,1]", "f32[2,2,3]", "", {{"a", {1, 2}}},
        {{"y", {1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2}}}),

    /* storage: ties go to the even neighbour, and a carry may reach the exponent */
    {OP_narrow,
     IN(0, "f32[5]", "a") "%1: bf16[5] = narrow %0\n%2: f32[5] = widen %1\n" OUT(2),
     {{"a", {1.00390625, 1.01171875, -1.00391, 0x1.ffp0, 3}}},
     {{"y", {1, 1.015625, -1.0078125, 2, 3}}}},
    {OP_widen,
     "%0: bf16[2] = state {name=\"m\"}\n%1: f32[2] = widen %0\n" OUT(1),
     {{"m", {0.5, -3}}},
     {{"y", {0.5, -3}}}},

    /* rows */
    ONE(rotate_half, "f32[2,4]", "f32[2,4]", "", {{"a", {1, 2, 3, 4, 5, 6, 7, 8}}},
        {{"y", {-3, -4, 1, 2, -7, -8, 5, 6}}}),
    ONE(sum, "f32[2,3]", "f32[2,1]", "", {{"a", {1, 2, 3, 4, 5, 6}}}, {{"y", {6, 15}}}),
    ONE(sum, "f32[3]", "f32[1]", "", {{"a", {1, 2, 3}}}, {{"y", {6}}}),
    ONE(max, "f32[2,3]", "f32[2,1]", "", {{"a", {1, 3, 2, -4, -5, -6}}}, {{"y", {3, -4}}}),
    TWO(pick, "f32[2,3]", "i32[1,2]", "f32[2,1]", "", {{"a", {1, 2, 3, 4, 5, 6}}, {"b", {2, 0}}},
        {{"y", {3, 4}}}),
    ONE(onehot, "i32[2]", "f32[2,3]", "", {{"a", {2, 0}}}, {{"y", {0, 0, 1, 1, 0, 0}}}),
    ONE(sum_rows, "f32[2,2,2]", "f32[2]", "", {{"a", {1, 2, 3, 4, 5, 6, 7, 8}}}, {{"y", {16, 20}}}),
    ONE(partial_sum, "f32[3,2]", "f32[2,2]", "", {{"a", {1, 2, 3, 4, 5, 6}}}, {{"y", {4, 6, 5, 6}}}),
    /* five rows in four parts: blocks of two, the third is short, the fourth empty */
    ONE(partial_sum, "f32[5,1]", "f32[4,1]", "", {{"a", {1, 2, 3, 4, 5}}}, {{"y", {3, 7, 5, 0}}}),

    /* views and copies */
    ONE(reshape, "f32[2,3]", "f32[3,1,2]", "", {{"a", {1, 2, 3, 4, 5, 6}}}, {{"y", {1, 2, 3, 4, 5, 6}}}),
    ONE(slice, "i32[4,2]", "i32[2,2]", " {begin=1}", {{"a", {1, 2, 3, 4, 5, 6, 7, 8}}},
        {{"y", {3, 4, 5, 6}}}),
    TWO(after, "f32[1,2]", "i32[3]", "f32[1,2]", "", {{"a", {1, 2}}, {"b", {3, 4, 5}}}, {{"y", {1, 2}}}),
    TWO(concat, "f32[1,2]", "f32[2,2]", "f32[3,2]", "", {{"a", {1, 2}}, {"b", {3, 4, 5, 6}}},
        {{"y", {1, 2, 3, 4, 5, 6}}}),
    TWO(take_row, "f32[2,3,2]", "i32[2]", "f32[2,1,2]", "",
        {{"a", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, {"b", {2, 0}}}, {{"y", {5, 6, 7, 8}}}),

    /* ternary: 0.5 rounds to 0 and 1.5 to 2, clipped; a short last group; a group of zeros */
    ONE(ternary, "f32[2,5]", "t2/4[2,5]", " {group=4}", {{"a", {1, -1, 0.5, 1.5, 0.25, 0, 0, 0, 0, -3}}},
        {{"y", {1, -1, 0, 1, 0.25, 0, 0, 0, 0, -3}}}),
    {OP_ste,
     "%0: f32[1,2] = param {name=\"w\", group=2}\n"
     "%1: t2/2[1,2] = ternary %0 {group=2}\n"
     "%2: f32[1,2] = ste %1, %0\n" OUT(2),
     {{"w", {-1, 3}}},
     {{"y", {0, 2}}}}, /* s = 2, -1/2 rounds to 0 */

    {OP_ste_clip, /* s = 2; 3/4 of a shorter group; where the weight is the scale itself it passes */
     IN(0, "f32[2,3]", "a") IN(1, "f32[2,3]", "b") "%2: t2/2[2,3] = ternary %1 {group=2}\n"
                                                   "%3: f32[2,3] = ste_clip %0, %2, %1\n" OUT(3),
     {{"a", {1, 2, 3, 4, 5, 6}}, {"b", {-1, 3, 0.75, 2, -2, 0}}},
     {{"y", {1, 0, 3, 4, 5, 6}}}},

    /* embedding */
    TWO(embedding, "i32[2,1]", "f32[3,2]", "f32[2,1,2]", "", {{"a", {2, 0}}, {"b", {1, 2, 3, 4, 5, 6}}},
        {{"y", {5, 6, 1, 2}}}),
    {OP_embedding,
     IN(0, "i32[2]", "a") IN(1, "f32[2,2]", "b") "%2: t2/1[2,2] = ternary %1 {group=1}\n"
                                                 "%3: f32[2,2] = embedding %0, %2\n" OUT(3),
     {{"a", {1, 1}}, {"b", {1, 2, 3, 4}}},
     {{"y", {3, 4, 3, 4}}}},
    TWO(embedding_grad, "i32[3]", "f32[3,2]", "f32[3,2]", "", {{"a", {2, 0, 2}}, {"b", {1, 2, 3, 4, 5, 6}}},
        {{"y", {3, 4, 0, 0, 6, 8}}}),
    {OP_embedding_grad,
     IN(0, "i32[2]", "a") IN(1, "f32[2,1]", "b")
         IN(2, "f32[2,1]", "c") "%3: f32[2,1] = embedding_grad %0, %1, %2\n" OUT(3),
     {{"a", {1, 1}}, {"b", {1, 2}}, {"c", {10, 20}}},
     {{"y", {10, 23}}}},

    /* matrix products */
    TWO(matmul, "f32[2,2]", "f32[2,3]", "f32[2,3]", "", {{"a", {1, 2, 3, 4}}, {"b", {1, 0, 2, 0, 1, 3}}},
        {{"y", {1, 2, 8, 3, 4, 18}}}),
    TWO(matmul, "f32[1,2,2]", "f32[3,2]", "f32[1,2,3]", " {tb=1}",
        {{"a", {1, 2, 3, 4}}, {"b", {1, 0, 0, 1, 2, 3}}}, {{"y", {1, 2, 8, 3, 4, 18}}}),
    TWO(matmul, "f32[2,1,2]", "f32[2,3]", "f32[2,3]", " {ta=1}",
        {{"a", {1, 3, 2, 4}}, {"b", {1, 0, 2, 0, 1, 3}}}, {{"y", {1, 2, 8, 3, 4, 18}}}),
    TWO(matmul, "f32[2,2]", "f32[3,2]", "f32[2,3]", " {ta=1, tb=1}",
        {{"a", {1, 3, 2, 4}}, {"b", {1, 0, 0, 1, 2, 3}}}, {{"y", {1, 2, 8, 3, 4, 18}}}),
    {OP_matmul,
     IN(0, "f32[1,2]", "a") IN(1, "f32[2,1]", "b")
         IN(2, "f32[1,1]", "c") "%3: f32[1,1] = matmul %0, %1, %2\n" OUT(3),
     {{"a", {1, 2}}, {"b", {3, 4}}, {"c", {100}}},
     {{"y", {111}}}},
    {OP_matmul, /* halfway to the even neighbour: 257 is 256, 259 is 260; the sum so far stays */
     IN(0, "f32[1,2]", "a") IN(1, "f32[2,1]", "b")
         IN(2, "f32[1,1]", "c") "%3: f32[1,1] = matmul %0, %1, %2 {precision=\"bf16\"}\n" OUT(3),
     {{"a", {257, 259}}, {"b", {1, 257}}, {"c", {257}}},
     {{"y", {256 + 260 * 256 + 257}}}},
    {OP_tmatmul,
     IN(0, "f32[1,2]", "a") IN(1, "f32[2,2]", "b") "%2: t2/2[2,2] = ternary %1 {group=2}\n"
                                                   "%3: f32[1,2] = tmatmul %0, %2 {tb=1}\n" OUT(3),
     {{"a", {1, 10}}, {"b", {2, -2, 0, 4}}},
     {{"y", {-18, 20}}}},
    {OP_tmatmul,
     IN(0, "f32[1,2]", "a") IN(1, "f32[2,2]", "b") "%2: t2/2[2,2] = ternary %1 {group=2}\n"
                                                   "%3: f32[1,2] = tmatmul %0, %2\n" OUT(3),
     {{"a", {1, 10}}, {"b", {2, -2, 0, 4}}},
     {{"y", {2, 18}}}},
    {OP_tmatmul, /* in units of the largest activation / 32639, here 1: 0.6 is 1 */
     IN(0, "f32[1,2]", "a")
         IN(1, "f32[2,2]", "b") "%2: t2/2[2,2] = ternary %1 {group=2}\n"
                                "%3: f32[1,2] = tmatmul %0, %2 {precision=\"i16\", tb=1}\n" OUT(3),
     {{"a", {32639, 0.6}}, {"b", {2, -2, 0, 4}}},
     {{"y", {65276, 2}}}},
    {OP_tmatmul, /* of activations times the scale of their row of weights, 2 */
     IN(0, "f32[1,2]", "a")
         IN(1, "f32[2,2]", "b") "%2: t2/2[2,2] = ternary %1 {group=2}\n"
                                "%3: f32[1,2] = tmatmul %0, %2 {precision=\"i16\"}\n" OUT(3),
     {{"a", {16319.5, 0.3}}, {"b", {2, -2, 0, 4}}},
     {{"y", {32639, -32638}}}},
    {OP_tmatmul, /* forward the scale, 257, stays */
     IN(0, "f32[1,2]", "a")
         IN(1, "f32[1,2]", "b") "%2: t2/2[1,2] = ternary %1 {group=2}\n"
                                "%3: f32[1,1] = tmatmul %0, %2 {precision=\"bf16\", tb=1}\n" OUT(3),
     {{"a", {259, 1}}, {"b", {257, -257}}},
     {{"y", {259 * 257}}}},
    {OP_tmatmul, /* backward it is rounded */
     IN(0, "f32[1,1]", "a")
         IN(1, "f32[1,2]", "b") "%2: t2/2[1,2] = ternary %1 {group=2}\n"
                                "%3: f32[1,2] = tmatmul %0, %2 {precision=\"bf16\"}\n" OUT(3),
     {{"a", {259}}, {"b", {257, -257}}},
     {{"y", {260 * 256, -260 * 256}}}},

    /* attention: two positions, two query heads on one key head, width 1; scores 0 and ln 3, 0 and 2 ln 3 */
    {OP_attention,
     IN(0, "f32[1,2,2,1]", "q") IN(1, "f32[1,2,1,1]", "k")
         IN(2, "f32[1,2,1,1]", "v") "%3: f32[1,2,2,1], %4: f32[1,2,2,1] = attention %0, %1, %2 {c=0.5}\n" OUT(
             3) "output %4 {name=\"lse\"}\n",
     {{"q", {2, 2, 2, 4}}, {"k", {0, LN3}}, {"v", {4, 8}}},
     {{"y", {4, 4, 7, 7.6}}, {"lse", {0, 0, LN4, LN10}}}},
    {OP_attention_grad,
     IN(0, "f32[1,2,1,1]", "q") IN(1, "f32[1,2,1,1]", "k") IN(2, "f32[1,2,1,1]", "v")
         IN(3, "f32[1,2,1,1]", "lse") IN(4, "f32[1,2,1,1]", "dout")
             IN(5, "f32[1,2,1,1]",
                "delta") "%6: f32[1,2,1,1], %7: f32[1,2,1,1], %8: f32[1,2,1,1] = attention_grad %0, %1, %2, "
                         "%3, %4, %5 {c=1}\n"
                         "output %6 {name=\"dq\"}\noutput %7 {name=\"dk\"}\noutput %8 {name=\"dv\"}\n",
     {{"q", {1, 1}}, {"k", {0, LN3}}, {"v", {4, 8}}, {"lse", {0, LN4}}, {"dout", {1, 1}}, {"delta", {4, 7}}},
     {{"dq", {0, 0.75 * LN3}}, {"dk", {-0.75, 0.75}}, {"dv", {1.25, 0.75}}}},
    {OP_attention, /* in bf16 1/3 is 171/512 */
     IN(0, "f32[1,2,1,1]", "q") IN(1, "f32[1,2,1,1]", "k") IN(2, "f32[1,2,1,1]", "v")
         "%3: f32[1,2,1,1], %4: f32[1,2,1,1] = attention %0, %1, %2 {c=1.6763493174257046e-05, precision=\"bf16\"}\n" OUT(
             3) "output %4 {name=\"lse\"}\n",
     {{"q", {257, 257}}, {"k", {0, 257}}, {"v", {257, 259}}},
     {{"y", {256, (171. / 512 * 256 + 260) * 0.75}}, {"lse", {0, LN4}}}},
    {OP_attention_grad, /* 2/3 is 171/256, 262/3 is 87.5 */
     IN(0, "f32[1,2,1,1]", "q") IN(1, "f32[1,2,1,1]", "k") IN(2, "f32[1,2,1,1]", "v")
         IN(3, "f32[1,2,1,1]", "lse") IN(4, "f32[1,2,1,1]", "dout") IN(
             5, "f32[1,2,1,1]",
             "delta") "%6: f32[1,2,1,1], %7: f32[1,2,1,1], %8: f32[1,2,1,1] = attention_grad %0, %1, %2, "
                      "%3, %4, %5 {c=1, precision=\"bf16\"}\n"
                      "output %6 {name=\"dq\"}\noutput %7 {name=\"dk\"}\noutput %8 {name=\"dv\"}\n",
     {{"q", {257, 0}},
      {"k", {259, 1}},
      {"v", {257, 515}},
      {"lse", {256 * 260, LN3}},
      {"dout", {257, 1}},
      {"delta", {65533, 254}}},
     {{"dq", {3 * 260, 171. / 256 * 260 + 87.5}},
      {"dk", {3 * 256, 0}},
      {"dv", {256 + 171. / 512, 171. / 512}}}},

    /* decoding: row 1 of the first sequence, row 0 of the second; the scores of attention's second position */
    {OP_cache_row,
     "%0: f32[2,2,1,1] = state {name=\"a.cache\"}\n" IN(1, "f32[2,1,1,1]", "b")
         IN(2, "i32[2]", "pos") "%3: f32[2,2,1,1] = cache_row %0, %1, %2\nstore %3 {name=\"a.cache\"}\n" OUT(3),
     {{"a.cache", {1, 2, 3, 4}}, {"b", {10, 20}}, {"pos", {1, 0}}},
     {{"a.cache", {1, 10, 20, 4}}, {"y", {1, 10, 20, 4}}}},
    {OP_attention_decode,
     IN(0, "f32[1,1,2,1]", "q") IN(1, "f32[1,3,1,1]", "k") IN(2, "f32[1,3,1,1]", "v")
         IN(3, "i32[1]", "pos") "%4: f32[1,1,2,1] = attention_decode %0, %1, %2, %3 {c=0.5}\n" OUT(4),
     {{"q", {2, 4}}, {"k", {0, LN3, 50}}, {"v", {4, 8, 1000}}, {"pos", {1}}},
     {{"y", {7, 7.6}}}},

    /* training step: g' = 1, m = 0.75, v = 0.625, w = 0.9 - 0.1 * 0.75 / (sqrt(1.25) + 0.5) */
    {OP_adamw,
     "%0: f32[1] = param {name=\"w\"}\n" IN(
         1, "f32[1]",
         "g") "%2: f32[1] = state {name=\"w.m\"}\n"
              "%3: f32[1] = state {name=\"w.v\"}\n" IN(
                  4, "f32[4]",
                  "hyper") "%5: f32[1], %6: f32[1], %7: f32[1] = adamw %0, %1, %2, %3, %4 {eps=0.5, "
                           "beta1=0.5, beta2=0.5}\n"
                           "store %5 {name=\"w\"}\nstore %6 {name=\"w.m\"}\nstore %7 {name=\"w.v\"}\n",
     {{"w", {1}}, {"g", {2}}, {"w.m", {0.5}}, {"w.v", {0.25}}, {"hyper", {0.9, 0.1, 2, 0.5}}},
     {{"w", {0.8536474508437579}}, {"w.m", {0.75}}, {"w.v", {0.625}}}},
    /* as bf16: m = 0.5 and v = 1 are numbers of that, so nothing is random about them */
    {OP_adamw,
     "%0: f32[1] = param {name=\"w\"}\n" IN(1, "f32[1]", "g") "%2: bf16[1] = state {name=\"w.m\"}\n"
     "%3: bf16[1] = state {name=\"w.v\"}\n" IN(4, "f32[4]", "hyper") IN(5, "i32[2]", "key")
     "%6: f32[1], %7: bf16[1], %8: bf16[1] = adamw %0, %1, %2, %3, %4, %5 {eps=1, beta1=0.5, beta2=0.5}\n"
     "store %6 {name=\"w\"}\nstore %7 {name=\"w.m\"}\nstore %8 {name=\"w.v\"}\n",
     {{"w", {1}}, {"g", {1}}, {"w.m", {0}}, {"w.v", {1}}, {"hyper", {1, 1, 1, 1}}, {"key", {7, 1}}},
     {{"w", {0.75}}, {"w.m", {0.5}}, {"w.v", {1}}}},
    /* g = 1 * 1 + 0.5 * 2, then as above; the scale is f16(w) */
    {OP_matmul_adamw,
     IN(0, "f32[2,1]", "a") IN(1, "f32[2,1]", "b") "%2: f32[1,1] = param {name=\"w\", group=1}\n"
     "%3: f32[1,1] = state {name=\"w.m\"}\n%4: f32[1,1] = state {name=\"w.v\"}\n" IN(5, "f32[4]", "hyper")
     "%6: t2/1[1,1] = state {name=\"w.codes\"}\n"
     "%7: f32[1,1], %8: f32[1,1], %9: f32[1,1], %10: t2/1[1,1] = matmul_adamw %0, %1, %2, %3, %4, %5, %6 "
     "{eps=0.5, beta1=0.5, beta2=0.5}\n"
     "store %7 {name=\"w\"}\nstore %8 {name=\"w.m\"}\nstore %9 {name=\"w.v\"}\nstore %10 {name=\"w.codes\"}\n",
     {{"a", {1, 0.5}}, {"b", {1, 2}}, {"w", {1}}, {"w.m", {0.5}}, {"w.v", {0.25}}, {"hyper", {0.9, 0.1, 2, 0.5}},
      {"w.codes", {-1}}},
     {{"w", {0.8536474508437579}}, {"w.m", {0.75}}, {"w.v", {0.625}}, {"w.codes", {0.853515625}}}},
    /* moments as bf16, as for adamw; no codes, so the key is the seventh operand */
    {OP_matmul_adamw,
     IN(0, "f32[1,1]", "a") IN(1, "f32[1,1]", "b") "%2: f32[1,1] = param {name=\"w\"}\n"
     "%3: bf16[1,1] = state {name=\"w.m\"}\n%4: bf16[1,1] = state {name=\"w.v\"}\n" IN(5, "f32[4]", "hyper")
     IN(6, "i32[2]", "key")
     "%7: f32[1,1], %8: bf16[1,1], %9: bf16[1,1] = matmul_adamw %0, %1, %2, %3, %4, %5, %6 "
     "{eps=1, beta1=0.5, beta2=0.5}\n"
     "store %7 {name=\"w\"}\nstore %8 {name=\"w.m\"}\nstore %9 {name=\"w.v\"}\n",
     {{"a", {2}}, {"b", {0.5}}, {"w", {1}}, {"w.m", {0}}, {"w.v", {1}}, {"hyper", {1, 1, 1, 1}}, {"key", {7, 1}}},
     {{"w", {0.75}}, {"w.m", {0.5}}, {"w.v", {1}}}},
    {OP_store,
     "%0: f32[2] = state {name=\"m\"}\n%1: f32[2] = scale %0 {c=2}\nstore %1 {name=\"m\"}\n",
     {{"m", {1, 2}}},
     {{"m", {2, 4}}}},
    {OP_output, IN(0, "f32[2]", "a") OUT(0), {{"a", {1, 2}}}, {{"y", {1, 2}}}},

/* regions: a squared, and its row sums plus b */
#define REGION                                                                                               \
    IN(0, "f32[2,2]", "a")                                                                                   \
    IN(1, "f32[2,1]", "b")                                                                                   \
    "%2: f32[2,2], %3: f32[2,1] = region %0, %1 {\n"                                                         \
    "  %0: f32[2,2] = arg {index=0}\n  %1: f32[2,2] = mul %0, %0\n  %2: f32[2,1] = sum %1\n"                 \
    "  %3: f32[2,1] = arg {index=1}\n  %4: f32[2,1] = add %2, %3\n  yield %1, %4\n}\n" OUT(                  \
        2) "output %3 {name=\"z\"}\n",                                                                       \
        {{"a", {1, 2, 3, 4}}, {"b", {10, 20}}}, {                                                            \
        {"y", {1, 4, 9, 16}}, {                                                                              \
            "z", {                                                                                           \
                15, 45                                                                                       \
            }                                                                                                \
        }                                                                                                    \
    }
    {OP_region, REGION},
    {OP_arg, REGION},
    {OP_yield, REGION},
};
enum { IR_CASES = sizeof ir_cases / sizeof *ir_cases };

/* The case's function @t as a whole module; buf_free it. */
static inline Buf case_text(const IrCase *c) {
    Buf b = {0};
    buf_printf(&b, "tbc_ir 1\nmeta \"{}\"\nfunc @t {\n%s}\n", c->body);
    return b;
}

#endif
