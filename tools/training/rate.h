// The learning rate of a step, as a recipe says.
#pragma once
#include "engine/optim/schedule.h"
#include "tools/training/checkpoint.h"

namespace plume::tools {

class LearningRate {
 public:
  LearningRate(const Recipe& recipe, int64_t steps_per_epoch);
  float at(int64_t step) const;

  // Schedule "plateau" follows the accuracy that the run is selected on; the others have no state.
  void observe(double accuracy) { plateau_.update(accuracy); }
  void store(RunState& state) const;
  void restore(const RunState& state);

 private:
  bool follows_;
  int64_t warmup_steps_;
  Schedule schedule_;
  ReduceOnPlateau plateau_;
};

}  // namespace plume::tools
