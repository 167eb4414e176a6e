/* The help text and the op tables of `tbc ops`. */
#include "help.h"
#include "../ir/ir.h"
#include "spec.h"

#include <stdio.h>

const char help_all[] =
    "tbc: compiles a ternary language model into a native training step\n"
    "\n"
    "  tbc compile SPEC [options]     SPEC: a model spec, a Hugging Face config.json (Qwen3), or a .tir "
    "file.\n"
    "                                 A name without a directory is also looked up among the installed "
    "models.\n"
    "    -o FILE                      output (train.so; text goes to stdout)\n"
    "    --emit so|tir|ll|asm|ptx     what to write: module, IR, LLVM IR, assembly or PTX (so)\n"
    "    --batch N, --seq N           sequences a step, tokens a sequence (the spec's)\n"
    "    --ternary on|off             off: the same model in full precision, as a baseline (the spec's)\n"
    "    --grads fused|buffer         update weights inside the step, or keep gradients for clipping and\n"
    "                                 accumulation (fused)\n"
    "    --target x86-64|nvptx64      what to generate code for (x86-64)\n"
    "    --cpu NAME                   LLVM's name of the CPU (this one)\n"
    "    --cores N                    how many cores kernels are cut up for (this machine's); results are "
    "the same\n"
    "    --gpu sm_80                  the GPU architecture that nvptx64 code is for; newer ones with as much\n"
    "                                 shared memory run it too (without: any from sm_80 on)\n"
    "    --precision f32|i16|bf16     of products: f32; i16: those with ternary weights, forward and to the\n"
    "                                 activations' gradients, with activations rounded to 16 bits by\n"
    "                                 blocks; bf16: all products, attention too, on rounded operands (f32)\n"
    "    --saved f32|bf16             how activations wait for the backward part (bf16 with --precision bf16,\n"
    "                                 else f32)\n"
    "    --memory SIZE                make all that tbc-run needs fit: 8G, 512M (of 1024), 10GB (of 1000);\n"
    "                                 computes forward values again rather than keep them, as few as it can\n"
    "    --dump-ir DIR                write 00-frontend.tir, 01-insert-ste.tir, ... one per pass\n"
    "    --print-after PASS           print the IR after a pass; may be repeated\n"
    "    --stop-after PASS            stop there and write the IR\n"
    "    --time-passes                a table of times on stderr\n"
    "\n"
    "  tbc opt FILE.tir [options]     read, check and print IR\n"
    "    --passes a,b,c               run these passes before\n"
    "    --grads fused|buffer         for the optimizer pass\n"
    "    --precision f32|i16|bf16     for the precision pass\n"
    "    --saved f32|bf16             for the passes narrow-saved and recompute\n"
    "    --memory SIZE                for the recompute pass: bytes of the arena\n"
    "    -o FILE                      output (stdout)\n"
    "    --time-passes                a table of times on stderr\n"
    "\n"
    "  tbc graph SPEC|FILE.tir [options]\n"
    "                                 a picture of the model, or of a function of the IR\n"
    "    -o FILE.svg|.dot|.html       output (SVG to stdout)\n"
    "    --function NAME              of a .tir file: which function (the first)\n"
    "\n"
    "  tbc inspect FILE.so [--json]   parameters, memory plan and launches of a compiled module\n"
    "  tbc ops                        the ops of the IR and of specs, as Markdown\n"
    "  tbc passes                     the passes in the order in which compile runs them, as Markdown\n"
    "  tbc --help, tbc --version\n"
    "\n"
    "Exit status: 0 done, 1 an error in the input or while working, 2 wrong usage.\n";

static void print_attrs(uint32_t set, const char *suffix) {
    for (uint32_t i = 0; i < ATTR_COUNT; i++) {
        if (set >> i & 1) printf(" %s%s", attr_name[i], suffix);
    }
}

static void print_flags(uint32_t flags) {
    static const char *const name[] = {"elementwise", "row", "typed", "source", "sink", "view", "inplace"};
    for (uint32_t i = 0; i < sizeof name / sizeof *name; i++) {
        if (flags >> i & 1) printf(" %s", name[i]);
    }
}

static void print_count(int min, int max) {
    printf(max < 0 ? "%d or more" : max > min ? "%d to %d" : "%d", min, max);
}

void print_ops(void) {
    printf("| op | operands | results | attributes | flags | gradient | meaning "
           "|\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < OP_COUNT; i++) {
        const OpInfo *op = &op_info[i];
        printf("| %s | ", op->name);
        print_count(op->min, op->max);
        printf(" | ");
        if (op->results < 0)
            printf("any");
        else
            printf("%d", op->results);
        printf(" |");
        print_attrs(op->attrs, "");
        print_attrs(op->optional, "?");
        printf(" |");
        print_flags(op->flags);
        printf(" | %s | %s |\n", op->grad, op->help);
    }
    printf("\nWhat a model spec can name:\n\n| op | args | keys | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < SPEC_OP_COUNT; i++) {
        const SpecOpInfo *op = &spec_op_info[i];
        printf("| %s | %s |", op->name, op->args);
        for (uint32_t k = 0; k < SPEC_KEYS; k++) {
            if ((op->required | op->optional) >> k & 1)
                printf(" %s%s", spec_key[k], op->optional >> k & 1 ? "?" : "");
        }
        printf(" | %s |\n", op->help);
    }
}
