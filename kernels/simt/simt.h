// simt.h - one kernel source, two processors. The front door: kernels include this file alone.
//
//   nvcc            device_nvcc.h: thin aliases over CUDA C++.
//   g++ or clang++  the same kernels run on the CPU, thread by thread, one block after the other.
//
// A kernel is an ordinary __global__ function. It differs from plain CUDA in three places:
//   SMEM(tile, float[16][33]);                    instead of __shared__ float tile[16][33];
//   float* buffer = simt::dyn_smem<float>();      instead of extern __shared__ float buffer[];
//   simt::launch<kernel<float, 3>>({grid, block, shared_bytes, stream}, args...);   instead of <<< >>>
//
// simt::async_copy, async_commit and async_wait are cp.async (see async_copy.h).
//
// launch: on the GPU throws a plume::Error that names the kernel when the launch is refused. In the emulation
// it returns after the last block; a mistake that the built-in checks find prints kernel, block, thread and
// source line to stderr and aborts the process (see README.md). It may be called from several host threads.
// Sixteen-bit floats are plume::f16 and plume::bf16 (engine/core/half.h) on both processors.
#pragma once

#if defined(__CUDACC__)
#define SIMT_EMU 0
#include "kernels/simt/device_nvcc.h"
#else
#define SIMT_EMU 1
#include "kernels/simt/async_copy.h"
#include "kernels/simt/atomics.h"
#include "kernels/simt/builtins.h"
#include "kernels/simt/emulator.h"
#include "kernels/simt/intrinsics.h"
#endif
