// What a training run keeps: weights that can be used anywhere, and all that it needs to go on.
#pragma once
#include <string>
#include <vector>

#include "engine/modules/module.h"
#include "engine/serialization/state_dict.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/config.h"

namespace plume::tools {

struct RunState {
  int64_t epoch = 0;  // finished epochs
  int64_t batch = 0;  // finished batches of the epoch under way
  int64_t step = 0;   // finished steps of the run
  // Of the epoch under way.
  double loss_sum = 0;
  int64_t images = 0, correct = 0;
  double seconds = 0, wait_seconds = 0;
  double best_accuracy = -1;                   // on what it selects on; -1 before the first evaluation
  int64_t epochs_since_best = 0;               // evaluations that brought nothing better
  double plateau_rate = 0, plateau_best = -1;  // of schedule "plateau"
  int64_t plateau_bad = 0;
  std::string fingerprint;  // of the training data
  int64_t image_size = 0, classes = 0;
  std::string validation_fingerprint;  // of the images that it selects on; empty: those it is measured on

  int64_t best_epoch() const { return epoch - epochs_since_best; }
};

struct RunDescription {
  Recipe recipe;
  RunState state;
  // Files of older versions do not say them: defaults, and 0 ranks.
  RunOptions options = {};
  int64_t ranks = 0;
  NetworkDescription network = {};  // of older versions' files: derived from the above, which its origin says
};

// Both are written atomically, with recipe, position and a checksum. save_weights: tensors under their plain
// names. save_run: all that a resumed run needs; what is in `weights` too has its plain name in the file, the
// `rest` is under kOptimizerPrefix.
void save_weights(const std::string& path, const RunDescription& run,
                  const std::vector<NamedTensor>& weights);
void save_run(const std::string& path, const RunDescription& run, const std::vector<NamedTensor>& weights,
              const std::vector<NamedTensor>& rest, const Context& context);

// Of either. Throws bad_input, naming the file and the reason.
RunDescription describe_run(const std::string& path);
// Of a run's file or of any other weights (describe_network()).
NetworkDescription describe_weights(const Weights& weights, const std::string& model,
                                    const std::string& data = "");
// The weights of either.
void load_weights(const std::string& path, Module& model);
void load_weights(const std::string& path, const std::vector<NamedTensor>& weights);
// What save_run() wrote. Throws bad_input; nothing is changed then.
void load_run(const std::string& path, const std::vector<NamedTensor>& weights,
              const std::vector<NamedTensor>& rest, Context& context);

}  // namespace plume::tools
