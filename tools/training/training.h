// A training run: recipe in, run folder out (run_folder.h).
//
// Batches, augmentation and the schedule are pure functions of (recipe, epoch, step), so a run that is
// resumed anywhere continues bit for bit.
#pragma once
#include <string>

#include "tools/cli/progress.h"
#include "tools/training/run_folder.h"

namespace plume::tools {

struct TrainingRequest {
  Recipe recipe;  // of a resumed run: what was stored, with the changes that were asked for
  RunOptions options;
  NetworkDescription network = {};  // of a resumed run
  Device device = Device::cpu;
  bool graph = false;
  Progress::Style style = Progress::Style::automatic;
};

// Starts a run in an empty folder or goes on with the one that `checkpoint` is of, where changes are allowed
// also selected on other images than before. Returns the exit code: 0, or 128 + signal after an interruption
// that left a checkpoint. Throws numeric when a loss or weight is not finite; the checkpoints then stay as
// they were.
int train(const TrainingRequest& request, const RunFolder& folder);
int resume(const TrainingRequest& request, const RunFolder& folder, const std::string& checkpoint,
           const RunState& state, bool changes_allowed = false);

}  // namespace plume::tools
