#include "tools/training/evaluation.h"

#include <algorithm>

#include "engine/autograd/tape.h"
#include "engine/core/graph.h"
#include "engine/ops/cast.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/profiler/cost.h"
#include "tools/cli/clock.h"
#include "tools/cli/main.h"
#include "tools/cli/signals.h"
#include "tools/profiling/energy.h"
#include "tools/training/evaluation_passes.h"
#include "tools/training/ranks.h"
#include "tools/training/run_data.h"

namespace plume::tools {
namespace {

Tensor random_images(int64_t batch, int height, int width, uint64_t seed, Device device) {
  RandomSequence random(seed);
  std::vector<float> values(size_t(batch * height * width * data::kChannels));
  for (float& v : values) v = random.uniform(-2.0f, 2.0f);
  return Tensor::from(values, {batch, height, width, data::kChannels}, device);
}

// Nearest rank.
double percentile(const std::vector<double>& sorted, double p) {
  const size_t rank = size_t(p * double(sorted.size()) + 0.999999);
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

// For `seconds`, but often enough to say something.
template <class Pass>
Latency::Times timed(double seconds, Pass&& pass) {
  constexpr size_t kFewest = 10;
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while ((times.size() < kFewest || seconds_since(start) < seconds) && !stop_signal()) {
    const Clock::time_point begin = Clock::now();
    pass();
    times.push_back(seconds_since(begin) * 1e3);
  }
  if (times.empty()) return {};
  std::sort(times.begin(), times.end());
  return {int(times.size()), percentile(times, 0.5), percentile(times, 0.95), percentile(times, 0.99)};
}

}  // namespace

void reduce_as(data::OpenOptions& options, std::string_view dataset, const data::Preprocessing& how) {
  if (dataset != "imagefolder" || how.crop.height != how.crop.width) return;
  options.shorter_side = how.squash ? how.crop.height : how.resize;
  options.squash = how.squash;
  options.interpolation = how.interpolation;
}

data::Loader evaluation_loader(std::shared_ptr<const data::Dataset> dataset, int64_t batch, int workers,
                               int64_t limit, const data::Preprocessing& how, bool shared, Device device) {
  data::LoaderParams params;
  params.batch_size = batch;
  params.workers = workers;
  params.sampler.limit = limit;
  if (shared) share_samples(params.sampler);
  params.augment = data::evaluation_augmentation(how);
  params.augment_on_device = !is_host(device);
  params.device = device;
  return data::Loader(std::move(dataset), params);
}

Evaluation evaluate(Module& model, data::Loader& loader, Device device, DType precision,
                    const std::function<void(const std::vector<float>&)>& take_logits) {
  const NoGrad no_grad;
  model.eval();
  model.fuse();
  Evaluation result{ClassificationMetrics(loader.dataset().classes())};
  const Clock::time_point start = Clock::now();
  double loss = 0;
  EvaluationPasses passes(model, device, precision, loader.params().batch_size);
  const auto take = [&] {
    const auto [logits, labels, mean] = passes.take();
    const std::vector<float> values = logits.to_vector<float>();
    if (take_logits) take_logits(values);
    result.metrics.add(values, labels.to_vector<int32_t>());
    loss += double(mean.item()) * double(labels.size());
  };
  loader.start(0);
  while (std::optional<data::Batch> batch = loader.next()) {
    if (stop_signal()) break;
    make_images(*batch, device);
    passes.start(batch->images, batch->labels);
    if (passes.unread() > 1 || is_host(device)) take();
  }
  while (passes.unread() > 0) take();
  result.seconds = seconds_since(start);
  if (result.metrics.count()) result.loss = loss / double(result.metrics.count());
  return result;
}

Latency measure_latency(Module& model, Device device, int64_t batch, int height, int width, double seconds,
                        DType precision) {
  constexpr double kMostWarmUpSeconds = 1.0;
  const double warm_up_seconds = std::min(kMostWarmUpSeconds, seconds / 2);
  const NoGrad no_grad;
  model.eval();
  model.fuse();
  std::vector<Tensor> inputs;
  for (uint64_t i = 0; i < 4; ++i)
    inputs.push_back(cast(Variable(random_images(batch, height, width, i, device)), precision).value());
  Context& ctx = context(device);
  size_t turn = 0;
  const auto pass = [&] {
    const Variable logits = model(Variable(inputs[turn++ % inputs.size()]));
    ctx.synchronize();
  };
  const Clock::time_point warm_up = Clock::now();
  do pass();
  while (seconds_since(warm_up) < warm_up_seconds && !stop_signal());
  Latency result{.batch = batch, .times = {}, .recorded = {}, .joules_per_image = {}};
  const std::optional<double> joules_before = energy_counter(device);
  result.times = timed(seconds, pass);
  const std::optional<double> joules = energy_counter(device);
  if (joules && joules_before && result.times.samples > 0)
    result.joules_per_image = (*joules - *joules_before) / double(result.times.samples) / double(batch);
  if (!backend(device).begin_capture || stop_signal()) return result;
  Variable logits;
  StepGraph graph;
  try {
    graph.capture(ctx, [&] { logits = model(Variable(inputs[0])); });
  } catch (const Error& error) {
    log_line(message("the pass cannot be recorded and is timed call by call only: {}", error.what()));
    return result;
  }
  result.recorded = timed(seconds, [&] {
    graph.replay();
    ctx.synchronize();
  });
  return result;
}

int64_t count_model_macs(Module& model, Device device, int height, int width) {
  const NoGrad no_grad;
  model.eval();
  CostCounter counter;
  model(Variable(random_images(1, height, width, 0, device)));
  return counter.macs();
}

int64_t state_bytes(Module& model) {
  int64_t bytes = 0;
  for (const NamedTensor& entry : model.state()) bytes += int64_t(entry.tensor->bytes());
  return bytes;
}

}  // namespace plume::tools
