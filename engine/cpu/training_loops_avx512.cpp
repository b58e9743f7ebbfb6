// Loops for AVX-512, which this file is compiled for, of training above all: batch norm's passes, gradients
// of depthwise convolutions, dot products. Apart from channel_loops_avx512.cpp: the more a file holds, the
// less the compiler is willing to inline, and activations would leave their registers.
#include "engine/cpu/batch_norm_rows.h"
#include "engine/cpu/depthwise_gradient_rows.h"
#include "engine/cpu/dot_tile.h"
#include "engine/cpu/lanes16.h"

#if defined(__x86_64__)
namespace plume::cpu {

const BatchNormKernels batch_norm_kernels_avx512 = batch_norm_kernels<Lanes16>();
const DepthwiseGradientKernels depthwise_gradient_kernels_avx512 = depthwise_gradient_kernels<Lanes16>();
const DotKernel dot_kernel_avx512{6, any_dot_tile<Lanes16, 6>};

}  // namespace plume::cpu
#endif
