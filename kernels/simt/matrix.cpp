#include "kernels/simt/matrix.h"

#include <cstring>

namespace simt::emu {
namespace {

// The sixteen values of a row or column along the depth: four lanes hold two neighbours of either half.
void gather(float (&values)[16], const LaneValues& lanes, unsigned first_lane, unsigned lower,
            unsigned upper) {
  constexpr size_t kPair = 2 * sizeof(float);
  for (unsigned i = 0; i < 4; ++i) {
    std::memcpy(values + 2 * i, lanes[first_lane + i] + lower * sizeof(float), kPair);
    std::memcpy(values + 8 + 2 * i, lanes[first_lane + i] + upper * sizeof(float), kPair);
  }
}

}  // namespace

void add_products_16816(float (&d)[4], const LaneValues& lanes, unsigned lane) {
  const unsigned group = lane / 4, pair = lane % 4;
  float rows[2][16], columns[2][16];
  for (unsigned i = 0; i < 2; ++i) {
    gather(rows[i], lanes, 4 * group, 2 * i, 4 + 2 * i);
    gather(columns[i], lanes, 4 * (2 * pair + i), 8, 10);
  }
  for (int k = 0; k < 16; ++k)
    for (int i = 0; i < 4; ++i) d[i] += rows[i / 2][k] * columns[i % 2][k];
}

}  // namespace simt::emu
