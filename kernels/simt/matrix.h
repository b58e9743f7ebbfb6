// The arithmetic of emulated matrix instructions (common/mma.h).
#pragma once
#include "kernels/simt/emulator.h"

namespace simt::emu {

// d += a b of mma.m16n8k16, for one lane after all have met: each has left its eight values of a and its four
// of b as floats, in the order of the fragments.
void add_products_16816(float (&d)[4], const LaneValues& lanes, unsigned lane);

}  // namespace simt::emu
