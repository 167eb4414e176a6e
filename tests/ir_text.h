/* Text of IR for tests: parsing what must be right, and every construct of the text form. */
#ifndef TBC_IR_TEXT_H
#define TBC_IR_TEXT_H

#include "../ir/ir.h"
#include "suite.h"

/* Parses; messages are in d->text. */
static inline Module *parse(const char *text, Diag *d) {
    *d = (Diag){0};
    return parse_module(text, "t.tir", d);
}

static inline Module *parse_ok(const char *text) {
    Diag d;
    Module *m = parse(text, &d);
    ck_assert_msg(m != NULL, "%s\nin:\n%s", d.text.at, text);
    return m;
}

/* Every construct of the text form, in the form that is printed. */
static const char full_text[] =
    "tbc_ir 1\n"
    "file 0 \"qwen3.json\"\n"
    "file 1 \"odd \\\" \\\\ \\u0001\\n\xc3\xa9.json\"\n"
    "props ste grads planned\n"
    "arena 8192\n"
    "meta \"{\\\"name\\\":\\\"x\\\"}\"\n"
    "func @train {eps=1e-08, beta1=0.9, beta2=0.95} {\n"
    "  %0: i32[2,3] at 0 = input {name=\"tokens\"}\n"
    "  %1: f32[4,6] at 64 = param {name=\"model.embed_tokens.weight\", group=128} @14:23\n"
    "  %2: t2/4[4,6] at 192 = ternary %1 {group=4} @1:20:3\n"
    "  %3: f32[2,3,6] at 320 = embedding %0, %2 @1:20:3\n"
    "  %4: f32[2,3,6] at 512, %5: f32[2,3,1] at 704 = region %3 @7:0 {\n"
    "    %0: f32[2,3,6] = arg {index=0}\n"
    "    %1: f32[] = splat {c=-0.3333333333333333}\n"
    "    %2: f32[2,3,6] = mul %0, %1 @3:4\n"
    "    %3: f32[2,3,1] = sum %2\n"
    "    yield %2, %3 @4294967295:65535\n"
    "  }\n"
    "  %6: f32[2,3,4] at 768 = matmul %4, %1 {tb=1}\n"
    "  output %6 {name=\"loss\"} @1:1\n"
    "  store %1 {name=\"model.embed_tokens.weight\"}\n"
    "}\n"
    "func @eval {\n"
    "}\n";

#endif
