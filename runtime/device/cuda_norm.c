/* The one kernel that is the runtime's own, as PTX: there has to be one in every module otherwise. */
#include "cuda_norm.h"

#define THREADS 256

static const char ptx[] = ".version 7.8\n"
                          ".target sm_80\n"
                          ".address_size 64\n"
                          ".visible .entry tbc_sum_squares(.param .u64 in, .param .u64 n, .param .u64 out)\n"
                          ".maxntid 256, 1, 1\n"
                          "{\n"
                          "    .reg .pred %p;\n"
                          "    .reg .b32 %thread, %block, %mine, %half, %other;\n"
                          "    .reg .b64 %at, %i, %end, %n, %out, %offset;\n"
                          "    .reg .f32 %x;\n"
                          "    .reg .f64 %y, %sum;\n"
                          "    .shared .align 8 .b8 sums[2048];\n" /* THREADS doubles */
                          "    ld.param.u64 %at, [in];\n"
                          "    ld.param.u64 %n, [n];\n"
                          "    ld.param.u64 %out, [out];\n"
                          "    cvta.to.global.u64 %at, %at;\n"
                          "    cvta.to.global.u64 %out, %out;\n"
                          "    mov.u32 %thread, %tid.x;\n"
                          "    mov.u32 %block, %ctaid.x;\n"
                          "    mul.wide.u32 %i, %block, 65536;\n" /* CUDA_NORM_BLOCK */
                          "    add.s64 %end, %i, 65536;\n"
                          "    min.u64 %end, %end, %n;\n"
                          "    cvt.u64.u32 %offset, %thread;\n"
                          "    add.s64 %i, %i, %offset;\n"
                          "    shl.b64 %offset, %i, 2;\n"
                          "    add.s64 %at, %at, %offset;\n"
                          "    mov.f64 %sum, 0d0000000000000000;\n"
                          "next:\n"
                          "    setp.ge.u64 %p, %i, %end;\n"
                          "    @%p bra share;\n"
                          "    ld.global.f32 %x, [%at];\n"
                          "    cvt.f64.f32 %y, %x;\n"
                          "    fma.rn.f64 %sum, %y, %y, %sum;\n"
                          "    add.s64 %i, %i, 256;\n" /* THREADS */
                          "    add.s64 %at, %at, 1024;\n"
                          "    bra next;\n"
                          "share:\n"
                          "    shl.b32 %mine, %thread, 3;\n"
                          "    mov.u32 %other, sums;\n"
                          "    add.s32 %mine, %mine, %other;\n"
                          "    st.shared.f64 [%mine], %sum;\n"
                          "    mov.u32 %half, 128;\n"
                          "halve:\n"
                          "    bar.sync 0;\n"
                          "    setp.ge.u32 %p, %thread, %half;\n"
                          "    @%p bra halved;\n"
                          "    shl.b32 %other, %half, 3;\n"
                          "    add.s32 %other, %other, %mine;\n"
                          "    ld.shared.f64 %y, [%other];\n"
                          "    add.rn.f64 %sum, %sum, %y;\n"
                          "    st.shared.f64 [%mine], %sum;\n"
                          "halved:\n"
                          "    shr.u32 %half, %half, 1;\n"
                          "    setp.ne.s32 %p, %half, 0;\n"
                          "    @%p bra halve;\n"
                          "    setp.ne.s32 %p, %thread, 0;\n"
                          "    @%p bra end;\n"
                          "    mul.wide.u32 %offset, %block, 8;\n"
                          "    add.s64 %out, %out, %offset;\n"
                          "    st.global.f64 [%out], %sum;\n"
                          "end:\n"
                          "    ret;\n"
                          "}\n";

CUresult cuda_norm_load(CudaNorm *norm, const CudaDriver *cu) {
    CUresult result = cu->cuModuleLoadData(&norm->module, ptx);
    return result ? result : cu->cuModuleGetFunction(&norm->sum, norm->module, "tbc_sum_squares");
}

CUresult cuda_norm_launch(const CudaNorm *norm, const CudaDriver *cu, CUstream stream, CUdeviceptr in,
                          uint64_t n, CUdeviceptr out) {
    void *params[] = {&in, &n, &out};
    return cu->cuLaunchKernel(norm->sum, (unsigned)cuda_norm_blocks(n), 1, 1, THREADS, 1, 1, 0, stream,
                              params, NULL);
}
