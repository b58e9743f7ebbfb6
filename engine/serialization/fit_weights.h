// From what lies in people's files to what a network wants: which dictionary, under which prefix, and what
// may be left out. All programs load weights by this, and so agree on what fits.
#pragma once
#include <string>
#include <vector>

#include "engine/serialization/safetensors.h"
#include "engine/serialization/weights.h"

namespace plume {

struct FitOptions {
  std::string key = {};  // of the dictionary, or a prefix of names in it; ".": the top; empty: what fits
  std::vector<std::string> ignore = {};  // patterns (* ? [..]) of names to leave out
  std::string head = {};                 // prefix of the last layer, which may be missing or of another shape
};

struct FittedWeights {
  Weights weights;        // `tensors` under the network's names
  std::string note;       // for people, one line that names the file, or empty: what was done to get there
  bool headless = false;  // all is there but the last layer, and maybe others of its sequence
};

// In this order:
//   the dictionary  the only one of the file, or the only one that fits, or `key`'s ("model_ema",
//                   "checkpoint.model"; where the names themselves have dots, a prefix of them). Nothing is
//                   preferred in silence: where several fit, the error names them
//   left out        a training run's optimiser; what `ignore` says
//   names           a component "module" or "_orig_mod", wherever it stands (DataParallel, torch.compile),
//                   and a prefix ("model.", "backbone.", any) without which the names are the network's
//   left over       counters that others add (total_ops, total_params, n_averaged, num_batches_tracked), and
//                   mean and std of a normalisation inside the network
//   scalars         [1] becomes [], I32 I64, and a counter of batches that is a real number whole
// What then is missing, unexpected or of another shape is for the caller to refuse: load_state() does.
// Throws bad_input, naming the file and, where it is to choose, the dictionaries.
FittedWeights fit_weights(const Weights& weights, const std::vector<TensorSource>& wanted,
                          const FitOptions& options = {});

// The same without a network: the only dictionary or `key`'s, without what `ignore` says; names stay as they
// are.
FittedWeights choose_weights(const Weights& weights, const FitOptions& options = {});

}  // namespace plume
