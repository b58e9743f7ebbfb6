// A number that is known when the program runs only, as a constant for loops that are to be unrolled.
//
// Included by files that are compiled for different processors: F must be a lambda of the including file.
#pragma once
#include <type_traits>

namespace plume::cpu {

// Calls f(integral constant n) for 1 <= n <= kMost.
template <int kMost, class F>
inline void with_constant(int n, F&& f) {
  if constexpr (kMost > 1)
    if (n < kMost) return with_constant<kMost - 1>(n, f);
  f(std::integral_constant<int, kMost>{});
}

}  // namespace plume::cpu
