#include "tools/profiling/ceilings.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine/autograd/variable.h"
#include "engine/core/context.h"
#include "engine/core/cpu_count.h"
#include "engine/core/random.h"
#include "engine/core/tensor.h"
#include "engine/core/thread_pool.h"
#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "tools/cli/clock.h"

namespace plume::tools {
namespace {

// The best of several runs: a ceiling is what undisturbed hardware reaches.
template <class F>
double best_seconds(F&& f, int runs) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const Clock::time_point start = Clock::now();
    f();
    best = std::min(best, seconds_since(start));
  }
  return best;
}

// Keeps a result that nobody reads. (Inside the loop it would tie the sums to memory.)
#define PLUME_KEEP(value) asm volatile("" : : "m"(value))

// Independent chains of fused multiply-adds, enough to hide their latency. Returns the number of FLOPs.
template <int kLanes>
[[gnu::always_inline]] inline double fma_chains(int64_t rounds) {
  typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
  constexpr int kChains = 10;
  Vector sums[kChains];
  const Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;
  for (Vector& s : sums) s = term;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int chain = 0; chain < kChains; ++chain) {
      sums[chain] = sums[chain] * factor + term;
    }
  }
  for (const Vector& s : sums) PLUME_KEEP(s);
  return 2.0 * kLanes * kChains * double(rounds);
}
#if defined(__x86_64__)
// GCC cuts a template's vectors to the width of the file's own target, so the wide ones are spelt out.
[[gnu::target("avx512f")]] double fma_512(int64_t rounds) {
  constexpr int kChains = 10, kLanes = 16;
  __m512 sums[kChains];
  const __m512 factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(0.001f);
  for (__m512& s : sums) s = term;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int chain = 0; chain < kChains; ++chain) {
      sums[chain] = _mm512_fmadd_ps(sums[chain], factor, term);
    }
  }
  for (const __m512& s : sums) PLUME_KEEP(s);
  return 2.0 * kLanes * kChains * double(rounds);
}
[[gnu::target("avx2,fma")]] double fma_256(int64_t rounds) { return fma_chains<8>(rounds); }
double run_fma(int64_t rounds) {
  static const bool wide = __builtin_cpu_supports("avx512f");
  return wide ? fma_512(rounds) : fma_256(rounds);
}
#else
double run_fma(int64_t rounds) { return fma_chains<4>(rounds); }
#endif

template <class F>
void on_threads(int64_t pieces, const F& f) {
  if (ThreadPool::shared().run(pieces, compute_threads(), f)) return;
  for (int64_t i = 0; i < pieces; ++i) f(i);
}

double cpu_flops_per_second() {
  constexpr int64_t kRounds = 500'000;  // a few milliseconds: some run is not disturbed
  double flops = 0;
  const double seconds = best_seconds(
      [&] {
        const int threads = std::min(compute_threads(), usable_cores());
        std::vector<double> done(size_t(threads), 0.0);
        on_threads(threads, [&](int64_t i) { done[size_t(i)] = run_fma(kRounds); });
        flops = std::accumulate(done.begin(), done.end(), 0.0);
      },
      100);
  return flops / seconds;
}

double copy_speed(Device device) {
  constexpr int64_t kBytes = int64_t(256) << 20;
  const int copies = is_host(device) ? 1 : 4;
  const Context& ctx = context(device);
  Tensor from = Tensor::zeros({kBytes}, DType::u8, device), to = Tensor::zeros({kBytes}, DType::u8, device);
  const auto copy = [&] {
    if (!is_host(device)) {
      for (int i = 0; i < copies; ++i) backend(device).copy(to.raw(), from.raw(), from.bytes(), ctx.stream());
      ctx.synchronize();
      return;
    }
    auto* out = to.data<uint8_t>();
    const auto* in = from.data<uint8_t>();
    constexpr int64_t kChunk = 1 << 20;
    for (int i = 0; i < copies; ++i) {
      on_threads(kBytes / kChunk, [=](int64_t k) { std::copy_n(in + k * kChunk, kChunk, out + k * kChunk); });
    }
  };
  copy();
  return 2.0 * double(kBytes) * copies / best_seconds(copy, is_host(device) ? 12 : 5);
}

// Of numbers as they occur: products of zeros switch fewer transistors, and a GPU that saves power runs them
// faster.
double matrix_product_speed(Device device, DType dtype, int64_t size) {
  constexpr int kProducts = 4;
  Context& ctx = context(device);
  RandomSequence random(1);
  std::vector<float> some((1 << 20) - 3), values(size_t(size * size));
  for (float& v : some) v = random.uniform(-1.0f, 1.0f);
  for (size_t i = 0; i < values.size(); ++i) values[i] = some[i % some.size()];
  const Tensor x = cast(Variable(Tensor::from(values, {size, size}, device)), dtype).value();
  std::reverse(values.begin(), values.end());
  const Tensor w = cast(Variable(Tensor::from(values, {size, size}, device)), dtype).value();
  Tensor y = Tensor::empty({size, size}, dtype, device);
  const auto multiply = [&] {
    for (int i = 0; i < kProducts; ++i) linear_forward(ctx, x, w, {}, y);
    ctx.synchronize();
  };
  multiply();
  return 2.0 * double(size) * double(size) * double(size) * kProducts / best_seconds(multiply, 3);
}

// The largest matrices that are multiplied in a moment.
double matrix_product_speed(Device device, DType dtype) {
  constexpr int64_t kLargest = 8192, kSmallest = 128;
  constexpr double kMoment = 0.05;
  double best = 0;
  for (int64_t size = kSmallest; size <= kLargest; size *= 4) {
    best = matrix_product_speed(device, dtype, size);
    const double next = 2 * 64 * double(size) * double(size) * double(size) / best;
    if (next > kMoment) break;
  }
  return best;
}

// Of the cores that the system lets us see, which may be fewer than the chip's own description says.
size_t last_level_cache() {
  for (int level = 4; level >= 0; --level) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size");
    size_t size = 0;
    char unit = 0;
    if (file >> size) {
      file >> unit;
      return unit == 'M' ? size << 20 : unit == 'K' ? size << 10 : size;
    }
  }
  return size_t(32) << 20;
}

}  // namespace

double Ceilings::least_seconds(double bytes, double flops, DType dtype) const {
  if (copy_bytes_per_second <= 0) return 0;
  const auto peak = flops_per_second.find(dtype);
  if (flops > 0 && peak == flops_per_second.end()) return 0;
  return std::max(bytes / copy_bytes_per_second, flops > 0 ? flops / peak->second : 0.0);
}

Ceilings measure_ceilings(Device device) {
  Ceilings ceilings;
  if (device == Device::simt) return ceilings;
  ceilings.copy_bytes_per_second = copy_speed(device);
  if (device == Device::cpu) {
    ceilings.flops_per_second[DType::f32] = cpu_flops_per_second();
  } else {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      ceilings.flops_per_second[dtype] = matrix_product_speed(device, dtype);
  }
  return ceilings;
}

size_t rotation_bytes(Device device) {
  const auto ask = backend(device).cache_bytes;
  const size_t cache = ask ? ask() : last_level_cache();
  return cache + cache / 4;
}

}  // namespace plume::tools
