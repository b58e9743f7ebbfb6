#include "tools/training/run_evaluation.h"

#include <algorithm>
#include <optional>

#include "engine/modules/batch_statistics.h"
#include "engine/ops/cast.h"
#include "tools/cli/json.h"
#include "tools/cli/model.h"

namespace plume::tools {
namespace {

// What an epoch's line of metrics says.
TestedWeights kept(const MetricsFiles& metrics, int64_t epoch, const std::string& set) {
  TestedWeights weights{.epoch = epoch, .selected_top1 = {}, .loss = {}, .top1 = {}, .macro_f1 = {}};
  const Json* const line = metrics.find(epoch);
  if (line == nullptr) return weights;
  weights.selected_top1 = line->value(set + "_top1", Json());
  weights.loss = line->value("test_loss", Json());
  weights.top1 = line->value("test_top1", Json());
  weights.macro_f1 = line->value("test_macro_f1", Json());
  return weights;
}

}  // namespace

Evaluation RunEvaluation::select(const RunState& state) {
  return evaluate_on(data_.selecting(), state, recipe_.precise_bn > 0);
}

Evaluation RunEvaluation::evaluate_on(data::Loader& loader, const RunState& state, bool new_statistics) try {
  std::optional<AveragedWeights> averaged;
  if (learner_.ema) averaged.emplace(*learner_.ema);
  if (new_statistics) recompute_batch_norms(state.epoch);
  learner_.ranks->share_buffers();
  return learner_.ranks->total(
      evaluate(*learner_.model, loader, device_, parse_precision(recipe_.precision)));
} catch (const Error& error) {
  if (error.kind() != ErrorKind::numeric) throw;
  fail(ErrorKind::numeric, "evaluation after epoch {}, step {}: {}; try a learning rate below {}",
       state.epoch + 1, state.step, error.what(), recipe_.lr);
}

// Over the images that the epoch began with, augmented but not mixed. Training itself never reads these
// statistics.
void RunEvaluation::recompute_batch_norms(int64_t epoch) {
  BatchStatistics statistics(*learner_.model);
  data_.train.start(epoch);
  for (int64_t n = 0; n < recipe_.precise_bn; ++n) {
    std::optional<data::Batch> batch = data_.train.next();
    if (!batch) break;
    make_images(*batch, device_);
    statistics.add(cast(Variable(batch->images.to(device_)), parse_precision(recipe_.precision)));
  }
}

// The first rank reads, for a run folder may lie on its disk alone.
void RunEvaluation::load(const std::string& path) {
  learner_.model->train();  // what was fused for the weights before goes
  const std::vector<NamedTensor> weights = learner_.weights();
  if (learner_.ranks->first()) load_weights(path, weights);
  learner_.ranks->share(weights);
}

RunResult RunEvaluation::test(const RunState& state, const MetricsFiles& metrics, const std::string& best) {
  const Selection& selection = data_.selection;
  RunResult result{.selected_on = selection.set(),
                   .about = selection.about,
                   .selection_images = selection.images(),
                   .test_split = name(data_.test_set->split()),
                   .test_images = data_.test_set->size(),
                   .best = kept(metrics, state.best_epoch(), selection.set()),
                   .last = kept(metrics, state.epoch, selection.set())};
  if (recipe_.limit_test > 0) result.test_images = std::min(result.test_images, recipe_.limit_test);
  if (!data_.validation) return result;
  const Evaluation last = evaluate_on(data_.test, state, false);
  result.last.take(last);
  result.best.take(last);
  result.test_seconds = last.seconds;
  if (result.best.epoch == result.last.epoch || learner_.ranks->stop_signal()) return result;
  load(best);
  const Evaluation of_best = evaluate_on(data_.test, state, false);
  result.best.take(of_best);
  result.test_seconds += of_best.seconds;
  return result;
}

}  // namespace plume::tools
