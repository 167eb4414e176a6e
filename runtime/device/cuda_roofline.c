/* Peaks of a GPU from the driver's attributes (cuda_roofline.h). They are those of the data sheets: nothing
 * is launched to measure them, as what a kernel of ours reached would not be the machine's bound but ours. */
#include "cuda_roofline.h"

/* Operations a cycle of a multiprocessor, a multiply-add counting two, from this compute capability on: f32
 * by the CUDA C Programming Guide ("Throughput of Native Arithmetic Instructions"), bf16 with f32 sums by the
 * peaks, clocks and multiprocessors of the data sheets of A100, A40, L40S, H100, B200 and RTX PRO 6000. A
 * product of int16 is two of int8, which are twice as fast as bf16. */
static const struct {
    uint32_t sm;
    double f32, bf16;
} generations[] = {{80, 128, 2048}, {86, 256, 1024}, {90, 256, 4096}, {100, 256, 8192}, {120, 256, 1024}};
enum { GENERATIONS = sizeof generations / sizeof *generations };

static double attribute(const CudaDriver *cu, CUdevice device, int which) {
    int value = 0;
    return cu->cuDeviceGetAttribute(&value, which, device) ? 0 : value;
}

Roofline cuda_roofline(const CudaDriver *cu, CUdevice device, uint32_t sm) {
    const double kilo = 1000, transfers = 2, bits = 8;
    double cycles = kilo * attribute(cu, device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE) *
                    attribute(cu, device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    double memory = kilo * attribute(cu, device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
    Roofline r = {.bandwidth = memory * transfers *
                               attribute(cu, device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) / bits};
    for (int i = 0; i < GENERATIONS && generations[i].sm <= sm; i++) {
        r.peak[TBC_MATH_F32] = cycles * generations[i].f32;
        r.peak[TBC_MATH_BF16] = r.peak[TBC_MATH_I16] = cycles * generations[i].bf16;
    }
    return r;
}
