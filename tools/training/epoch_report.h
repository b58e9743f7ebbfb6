// What a run says of its epochs and of its end: lines of metrics, result.json, and text for people.
#pragma once
#include <optional>
#include <string>

#include "engine/optim/optimizer.h"
#include "tools/cli/json_type.h"
#include "tools/training/checkpoint.h"
#include "tools/training/evaluation.h"
#include "tools/training/selection.h"

namespace plume::tools {

struct EpochFigures {
  const RunState& done;          // as the epoch ended
  const Evaluation& evaluation;  // of the images that the run is selected on
  const Selection& selection;
  double best_accuracy;
  double learning_rate;
  bool mixed;  // an image shows more than its label: a training accuracy would say little
  size_t peak_memory;
  std::optional<StepControl> scaling;
};
// "epoch", "step", "train_loss", ...; what was evaluated under "validation_top1", or "test_top1" where the
// run is selected on the images it is measured on; "selected_on" says which.
Json epoch_line(const EpochFigures& figures);
std::string epoch_text(const Json& line, int64_t epochs);

// Weights that were kept, and what came of them on the images that the run is measured on. Null: not known.
struct TestedWeights {
  int64_t epoch = 0;
  Json selected_top1;
  Json loss, top1, macro_f1;

  void take(const Evaluation& tested);
};
// At the end of a run: the best epoch by what it is selected on, and the last one.
struct RunResult {
  std::string selected_on, about;  // "validation" or "test", Selection::about
  int64_t selection_images = 0;
  std::string test_split;
  int64_t test_images = 0;
  double test_seconds = 0;  // 0 where nothing was evaluated for it
  TestedWeights best, last;
};
// {"selected_on", "selection", "selection_images", "test_split", "test_images", "test_seconds",
//  "best" {"epoch", "selected_top1", "test_loss", "test_top1", "test_macro_f1"}, "last" {...}}
Json to_json(const RunResult& result);
// The same as the last line of metrics: "best_epoch", "test_best_top1", "test_last_top1", ...
Json result_line(const RunResult& result, const RunState& state);
// Of a result.json: "selected on 500 validation images (10 % of the training set), tested once on 10000: best
// (epoch 7) 71.20 %, last 70.90 %".
std::string result_text(const Json& result);

}  // namespace plume::tools
