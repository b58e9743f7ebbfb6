#include "engine/ops/layer_random.h"

#include "engine/core/graph.h"

namespace plume {
namespace {

thread_local bool dropout_enabled_on_thread = true;

const bool prepared = before_recordings([](Device device) { layer_random().state(device); });

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
  call_ = 0;
  numbers_.set({seed_, step});
}

NoDropout::NoDropout() : previous_(dropout_enabled_on_thread) { dropout_enabled_on_thread = false; }
NoDropout::~NoDropout() { dropout_enabled_on_thread = previous_; }
bool dropout_enabled() { return dropout_enabled_on_thread; }

}  // namespace plume
