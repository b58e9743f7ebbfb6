// How much the tests fuzz that damage files: PLUME_FUZZ_RUNS sets how many of each kind, PLUME_FUZZ_SEED
// where they begin.
#pragma once
#include <cstdint>
#include <cstdlib>

namespace plume::test {

inline uint64_t number_from_environment(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}
inline uint64_t fuzz_runs(uint64_t otherwise) {
  return number_from_environment("PLUME_FUZZ_RUNS", otherwise);
}
inline uint64_t fuzz_seed() { return number_from_environment("PLUME_FUZZ_SEED", 1); }

}  // namespace plume::test
