// The evaluations of a run: after each epoch on the images that it is selected on, and once, at its end, on
// those that it is measured on. With averaged weights where the run averages; every rank takes its share.
#pragma once
#include "tools/training/epoch_report.h"
#include "tools/training/learner.h"
#include "tools/training/metrics.h"
#include "tools/training/run_data.h"

namespace plume::tools {

class RunEvaluation {
 public:
  RunEvaluation(const Recipe& recipe, Learner& learner, RunData& data, Device device)
      : recipe_(recipe), learner_(learner), data_(data), device_(device) {}

  // Of the weights as they are, after the epoch under way. Computes batch norms' statistics anew where the
  // recipe says so. Throws numeric, naming the place.
  Evaluation select(const RunState& state);

  // At the end: of the last weights and of those in the file `best`, which the learner has afterwards. Where
  // the run is selected on the same images, what metrics have of them, and nothing is evaluated. Stops early,
  // with what it has, when a signal asks any rank to.
  RunResult test(const RunState& state, const MetricsFiles& metrics, const std::string& best);

 private:
  Evaluation evaluate_on(data::Loader& loader, const RunState& state, bool new_statistics);
  void recompute_batch_norms(int64_t epoch);
  void load(const std::string& path);

  const Recipe& recipe_;
  Learner& learner_;
  RunData& data_;
  Device device_;
};

}  // namespace plume::tools
