// A training run: recipe in, run folder out.
//
// The folder holds config.json (recipe and surroundings), metrics.jsonl (one line per epoch),
// last.safetensors and best.safetensors (checkpoints, see tool_checkpoint.h). Batches, augmentation and the
// schedule are pure functions of (recipe, epoch, step), so a run that is resumed anywhere continues bit for
// bit.
#pragma once
#include <string>

#include "tools/tool_config.h"

namespace plume::tools {

struct RunOptions {
  std::string out;       // run folder
  std::string data_dir;  // folder of the data set's files
  int64_t workers = 2;   // loader threads
  bool resume = false, overwrite = false, allow_changes = false;
};

// Returns the exit code: 0, or 128 + signal after an interruption that left a checkpoint. Throws numeric when
// the loss is not finite; the last checkpoint then stays as it was.
int train(const Flags& flags, const Recipe& recipe, const RunOptions& options, Device device);

}  // namespace plume::tools
