// Splitting loops over threads (core/thread_pool.h says how, and who may).
//
// The results of every variant here are the same for any number of threads: element-wise loops do not care
// how they are split, and reductions use a partition that depends on the problem alone (rows_sum below).
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/core/thread_pool.h"

#if defined(_OPENMP)
#define PLUME_SIMD _Pragma("omp simd")
#define PLUME_SIMD_SUM(variables) PLUME_SIMD_SUM_TEXT(omp simd reduction(+ : variables))
#define PLUME_SIMD_SUM_TEXT(text) _Pragma(#text)
#else
#define PLUME_SIMD
#define PLUME_SIMD_SUM(variables)
#endif

namespace plume::cpu {

inline int max_threads() { return compute_threads(); }

// Calls f(begin, end) on disjoint ranges that cover 0..n-1, each but the last at least `grain` long: the
// grain keeps short loops on the calling thread. The ranges depend on n and grain alone, except that a loop
// which is not shared out is one range. What f throws is thrown here.
template <class F>
void parallel_for(int64_t n, int64_t grain, const F& f) {
  if (n <= 0) return;
  constexpr int64_t kMostPieces = 128, kLine = 64;
  if (shares_every_loop()) grain = 1;
  const int64_t pieces = std::min(n / std::max<int64_t>(grain, 1), kMostPieces);
  if (pieces > 1) {
    int64_t length = (n + pieces - 1) / pieces;
    if (length > kLine) length = (length + kLine - 1) / kLine * kLine;  // no two threads in one cache line
    const auto piece = [&](int64_t i) { f(i * length, std::min(n, (i + 1) * length)); };
    if (ThreadPool::shared().run((n + length - 1) / length, max_threads(), piece)) return;
  }
  f(int64_t(0), n);
}

// Elements below which starting threads costs more than it brings.
inline constexpr int64_t kElementGrain = 16384;

// Rows (of `channels` elements each) that make up about one element grain.
inline int64_t row_grain(int64_t channels) {
  return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(channels, 1));
}

// Sums over rows, `kSums` of them per channel: block(first, last, partial) adds the terms of rows
// first..last-1 to partial[kSums * channels] in float. Blocks are short and their results are added in
// double, in an order that does not depend on the number of threads, so the result is as accurate as a
// pairwise sum.
template <int kSums, class F>
std::vector<double> rows_sum(int64_t rows, int64_t channels, const F& block) {
  constexpr int64_t kBlock = 64, kMaxChunks = 32;
  const int64_t width = kSums * channels;
  const int64_t blocks = (rows + kBlock - 1) / kBlock, chunks = std::clamp<int64_t>(blocks, 1, kMaxChunks);
  std::vector<double> sums(size_t(chunks * width), 0.0);
  const int64_t grain = rows * channels < 2 * kElementGrain ? chunks : 1;
  parallel_for(chunks, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> partial(size_t(width), 0.0f);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      double* sum = sums.data() + chunk * width;
      for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks; ++b) {
        std::fill(partial.begin(), partial.end(), 0.0f);
        block(b * kBlock, std::min(rows, (b + 1) * kBlock), partial.data());
        for (int64_t i = 0; i < width; ++i) sum[i] += double(partial[size_t(i)]);
      }
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < width; ++i) sums[size_t(i)] += sums[size_t(chunk * width + i)];
  sums.resize(size_t(width));
  return sums;
}

}  // namespace plume::cpu
