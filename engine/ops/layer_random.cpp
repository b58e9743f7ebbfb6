#include "engine/ops/layer_random.h"

#include "engine/core/context.h"

namespace plume {
namespace {

thread_local bool dropout_enabled_on_thread = true;

}  // namespace

LayerRandom& layer_random() {
  thread_local LayerRandom random;
  return random;
}

void LayerRandom::seed(uint64_t seed) {
  seed_ = int64_t(seed);
  begin_step(0);
}

void LayerRandom::begin_step(int64_t step) {
  step_ = step;
  call_ = 0;
  for (auto& [device, state] : states_) refresh(state);
}

void LayerRandom::refresh(State& state) const {
  const int64_t numbers[2] = {seed_, step_};
  state.upload.send(numbers, sizeof(numbers), state.tensor);
}

const Tensor& LayerRandom::state(Device device) {
  State& state = states_[device];
  if (!state.tensor.defined()) {
    state.tensor = Tensor::empty({2}, DType::i64, device, "random");
    refresh(state);
  }
  return state.tensor;
}

NoDropout::NoDropout() : previous_(dropout_enabled_on_thread) { dropout_enabled_on_thread = false; }
NoDropout::~NoDropout() { dropout_enabled_on_thread = previous_; }
bool dropout_enabled() { return dropout_enabled_on_thread; }

}  // namespace plume
