#include "tools/training/step.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd/tape.h"
#include "engine/core/kernel_call.h"
#include "engine/core/scope.h"
#include "engine/memory/staging.h"
#include "engine/ops/batch_metrics.h"
#include "engine/ops/cast.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"

namespace plume::tools {
namespace {

bool all_finite(const Tensor& tensor) {
  const std::vector<float> values = cast(Variable(tensor), DType::f32).value().to_vector<float>();
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// Looks at what kernels write, while alive.
class FiniteWatch : public LaunchObserver {
 public:
  explicit FiniteWatch(Context& context) : context_(context), before_(context.observer()) {
    context.set_observer(this);
  }
  ~FiniteWatch() override { context_.set_observer(before_); }
  FiniteWatch(const FiniteWatch&) = delete;
  FiniteWatch& operator=(const FiniteWatch&) = delete;

  const std::string& found() const { return found_; }

 private:
  void begin(const KernelCall&) override {}
  void end(const KernelCall& call) override {
    if (!found_.empty() || looking_) return;
    looking_ = true;  // a cast is a kernel too
    call.for_each_operand([&](const Tensor& tensor, bool written) {
      if (!written || !found_.empty() || !tensor.defined() || !is_floating(tensor.dtype())) return;
      if (all_finite(tensor)) return;
      const ScopeOwner* owner = current_scope().owner;
      const std::string layer = owner ? owner->scope_name() : "";
      found_ = layer.empty() ? call.slot() : message("{} ({})", layer, call.slot());
    });
    looking_ = false;
  }

  Context& context_;
  LaunchObserver* before_;
  bool looking_ = false;
  std::string found_;
};

}  // namespace

TrainingStep::TrainingStep(Learner& learner, const StepParams& params, Device device,
                           std::function<void(const std::string&)> say)
    : learner_(learner),
      ranks_(*learner.ranks),
      params_(params),
      device_(device),
      say_(say),
      warn_(std::move(say)) {
  if (params.mix.any()) mixers_.assign(size_t(params.passes), BatchMixer(params.mix, params.seed));
  for (const NamedTensor& entry : learner.model->state())
    if (entry.tensor->dtype() == DType::i64) counters_.push_back(*entry.tensor);
  sums_ = batch_metrics_sums(device);
}

bool TrainingStep::fits_graph(const std::vector<data::Batch>& batches) {
  if (!params_.graph) return false;
  const bool whole = int64_t(batches.size()) == params_.passes &&
                     std::all_of(shares_.begin(), shares_.end(), [&](const SharedStep& s) {
                       return s.samples == params_.batch * ranks_.size();
                     });
  if (!whole && say_) {
    say_(message("a step of fewer than {} images is not replayed but runs call by call",
                 params_.batch * params_.passes));
    say_ = nullptr;
  }
  return whole;
}

void TrainingStep::start(const std::vector<data::Batch>& batches, int64_t step, float learning_rate) {
  layer_random().begin_step(step);
  learner_.optimizer->prepare(learning_rate, int(batches.size()) * ranks_.size());
  shares_.clear();
  for (const data::Batch& b : batches) shares_.push_back(ranks_.begin_step(b.count));
  if (learner_.ema) learner_.ema->prepare(params_.ema_decay);
  for (size_t i = 0; i < mixers_.size() && i < batches.size(); ++i)
    mixers_[i].begin_step(step * params_.passes + int64_t(i), int(batches[i].images.dim(1)),
                          int(batches[i].images.dim(2)));
  // The first step loads kernels and makes plans, which a recording must not. They are of its sizes: a
  // shorter step does not do.
  const bool whole = fits_graph(batches), replayed = whole && warm_;
  if (!replayed) {
    passes_.clear();
    for (const data::Batch& b : batches)
      passes_.push_back({b.images.to(device_), b.labels.to(device_), {}, {}});
    run();
    warm_ = warm_ || whole;
    return report(step);
  }
  if (recorded_.empty())
    for (const data::Batch& b : batches)
      recorded_.push_back({Tensor::empty(b.images.shape(), b.images.dtype(), device_, "input"),
                           Tensor::empty(b.labels.shape(), b.labels.dtype(), device_, "input"),
                           {},
                           {}});
  for (size_t i = 0; i < batches.size(); ++i) {
    recorded_[i].images.copy_from(batches[i].images);
    recorded_[i].labels.copy_from(batches[i].labels);
  }
  passes_ = recorded_;
  if (graph_.captured() || record()) {
    replay();
  } else {
    layer_random().begin_step(step);  // numbered anew
    run();
  }
  report(step);
}

Variable TrainingStep::forward(Pass& pass, size_t number) {
  Tensor images = pass.images;
  Targets targets{pass.labels, {}};
  CrossEntropyParams loss_params{params_.label_smoothing};
  if (!mixers_.empty()) {
    const Tensor& numbers = mixers_[number].state(device_);
    images = mix_images(images, numbers);
    targets = {{}, mix_targets(pass.labels, params_.classes, params_.label_smoothing, numbers)};
    loss_params = {};
  }
  const Variable logits = (*learner_.model)(cast(Variable(images), params_.precision));
  const Variable loss = softmax_cross_entropy(logits, targets, loss_params);
  pass.loss = loss.value();
  pass.logits = logits.value();
  return loss;
}

void TrainingStep::run() {
  learner_.optimizer->zero_grad();
  sums_.fill_zero();
  for (size_t i = 0; i < passes_.size(); ++i) {
    const Variable loss = forward(passes_[i], i);
    batch_metrics(passes_[i].loss, passes_[i].logits, mixers_.empty() ? passes_[i].labels : Tensor(), sums_);
    ranks_.backward(loss, learner_.optimizer->loss_scale(), shares_[i], i + 1 == passes_.size());
  }
  // Where the loss can be read without waiting, a step that went wrong leaves the weights as they were.
  const bool readable = is_host(device_) && !learner_.optimizer->options().loss_scaling.enabled;
  if (readable && !std::all_of(passes_.begin(), passes_.end(),
                               [](const Pass& pass) { return std::isfinite(*pass.loss.data<float>()); }))
    return;
  learner_.optimizer->apply();
  if (learner_.ema) learner_.ema->apply();
}

bool TrainingStep::record() {
  increments_.clear();
  for (const Tensor& counter : counters_) increments_.push_back(-*counter.data<int64_t>());
  try {
    graph_.capture(context(device_), [this] { run(); });
  } catch (const Error& error) {
    for (size_t i = 0; i < counters_.size(); ++i) *counters_[i].data<int64_t>() = -increments_[i];
    params_.graph = false;
    if (warn_) warn_(message("a step cannot be recorded and runs call by call: {}", error.what()));
    return false;
  }
  for (size_t i = 0; i < counters_.size(); ++i) increments_[i] += *counters_[i].data<int64_t>();
  recorded_ = passes_;  // with the outputs, where they were made
  fresh_ = true;
  return true;
}

void TrainingStep::replay() {
  graph_.replay();
  if (!fresh_)
    for (size_t i = 0; i < counters_.size(); ++i) *counters_[i].data<int64_t>() += increments_[i];
  fresh_ = false;
}

std::string TrainingStep::first_bad_layer() {
  const NoGrad no_grad;
  FiniteWatch watch(context(device_));
  for (size_t i = 0; i < passes_.size() && watch.found().empty(); ++i) forward(passes_[i], i);
  return watch.found();
}

void TrainingStep::report(int64_t step) {
  if (is_host(device_)) {
    reports_.push_back({step, sums_.clone(), nullptr});
    return;
  }
  const DeviceBackend& device = backend(device_);
  void* const stream = context(device_).stream();
  Tensor host = pinned_tensor(sums_.shape(), sums_.dtype(), "metrics");
  device.copy(host.raw(), sums_.raw(), sums_.bytes(), stream);
  reports_.push_back({step, std::move(host), device.record_event(stream)});
}

TrainingStep::Result TrainingStep::result() {
  PLUME_CHECK(unread() > 0, "training: the results of all steps were read");
  const Report report = std::move(reports_.front());
  reports_.pop_front();
  if (report.copied) backend(device_).await_event(report.copied.get());
  const auto* const numbers = static_cast<const double*>(report.sums.raw());
  double sums[] = {numbers[0], numbers[2], mixers_.empty() ? numbers[1] : -1};
  ranks_.add_up(sums);
  return {report.step, sums[0], int64_t(sums[1]), int64_t(sums[2])};
}

}  // namespace plume::tools
