// The random numbers of layers that drop something (dropout, stochastic depth): a pure function of the seed,
// the training step, the place of the layer's call in that step, and the element. So they are equal on all
// devices and for any number of threads, a run that is resumed at step s goes on as if it had not stopped,
// and the gradient computes its mask again instead of keeping it.
//
// Seed and step are read from device memory, so that a recorded step (engine/core/graph.h) that is replayed
// draws anew.
#pragma once
#include "engine/core/random.h"
#include "engine/core/tensor.h"
#include "engine/memory/staging.h"

namespace plume {

class LayerRandom {
 public:
  void seed(uint64_t seed);
  // Before each training step, replayed ones too. Gradients of a step are to be computed before the next
  // begins.
  void begin_step(int64_t step);

  // For layers: i64 [2] = {seed, step}, the same memory as long as the process lives; and a number for this
  // call.
  const Tensor& state(Device device) { return numbers_.on(device); }
  uint32_t next_call() { return call_++; }

 private:
  int64_t seed_ = 0;
  uint32_t call_ = 0;
  StepNumbers<int64_t, 2> numbers_;
};
// This thread's.
LayerRandom& layer_random();

// While alive, such layers do nothing on this thread, in training mode too.
class NoDropout {
 public:
  NoDropout();
  ~NoDropout();
  NoDropout(const NoDropout&) = delete;
  NoDropout& operator=(const NoDropout&) = delete;

 private:
  bool previous_;
};
bool dropout_enabled();

// Four uniform numbers in [0, 1): of elements 4 i to 4 i + 3 of call number `call`.
struct DropoutNumbers {
  float v[4];
};
PLUME_HD inline DropoutNumbers dropout_numbers(const int64_t* state, uint32_t call, uint64_t i) {
  const PhiloxBlock block = philox(uint64_t(state[0]), i, uint64_t(state[1]) << 20 | call);
  DropoutNumbers numbers;
  for (int j = 0; j < 4; ++j) numbers.v[j] = uniform01(block.v[j]);
  return numbers;
}

}  // namespace plume
