// What a training run keeps in last.safetensors and best.safetensors.
#pragma once
#include <memory>
#include <string>

#include "data/dataset.h"
#include "engine/modules/module.h"
#include "engine/optim/sgd.h"
#include "tools/tool_config.h"

namespace plume::tools {

struct RunState {
  int64_t epoch = 0;  // finished epochs
  int64_t batch = 0;  // finished batches of the epoch under way
  int64_t step = 0;   // finished steps of the run
  // Of the epoch under way.
  double loss_sum = 0;
  int64_t images = 0;
  double seconds = 0, wait_seconds = 0;
  double best_accuracy = -1;  // on the test split; -1 before the first evaluation
  std::string fingerprint;    // of the training data
  int64_t image_size = 0, classes = 0;
};

void save_run(const std::string& path, const Recipe& recipe, const RunState& state, Module& model, Sgd& sgd);

// The recipe and position alone. Throws bad_input, naming the file and the reason.
struct RunDescription {
  Recipe recipe;
  RunState state;
};
RunDescription describe_run(const std::string& path);
// Weights, buffers and, when given, velocities. Throws bad_input; nothing is changed then.
void load_run(const std::string& path, Module& model, Sgd* sgd);

}  // namespace plume::tools
