#include "tools/profiling/workload.h"

#include <algorithm>
#include <cmath>

#include "engine/core/random.h"
#include "engine/ops/cast.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "tools/cli/flags.h"

namespace plume::tools {
namespace {

constexpr size_t kInputs = 4;
constexpr float kLearningRate = 1e-3f;  // small: the images are noise and the weights must stay finite

Tensor random_images(const Workload& w, uint64_t seed, DType dtype, Device device) {
  const Shape shape{w.batch, w.size, w.size, 3};
  RandomSequence random(seed, 7);
  std::vector<float> values(size_t(shape.elements()));
  for (float& v : values) v = random.uniform(-2.0f, 2.0f);
  return cast(Variable(Tensor::from(values, shape, device)), dtype).value();
}

}  // namespace

Workload parse_workload(std::string_view text) {
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  PLUME_CHECK(second != std::string_view::npos,
              "workload '{}': expected mode:size:batch, e.g. training:32:64", text);
  const std::string_view mode = text.substr(0, first);
  PLUME_CHECK(mode == "inference" || mode == "training",
              "workload '{}': '{}' is not one of inference, training", text, mode);
  Workload w;
  w.training = mode == "training";
  w.size =
      int(parse_whole("workload size", std::string(text.substr(first + 1, second - first - 1)), 1, 4096));
  w.batch = parse_whole("workload batch", std::string(text.substr(second + 1)), 1, 65536);
  return w;
}

std::string to_string(const Workload& w) {
  return message("{}:{}:{}", w.training ? "training" : "inference", w.size, w.batch);
}

std::vector<DType> parse_dtypes(const std::vector<std::string>& names) {
  const std::vector<DType> all{DType::f32, DType::bf16, DType::f16};
  if (names.empty()) return all;
  std::vector<DType> wanted;
  for (const std::string& word : names) {
    const auto found = std::find_if(all.begin(), all.end(), [&](DType t) { return word == name(t); });
    PLUME_CHECK(found != all.end(), "dtype '{}' is not one of f32, bf16, f16", word);
    wanted.push_back(*found);
  }
  return wanted;
}

ModelRun::ModelRun(const std::string& model, const Workload& workload, DType dtype, Device device,
                   const Options& options)
    : workload_(workload),
      context_(context(device)),
      use_graph_(options.graph),
      classes_(options.classes       ? options.classes
               : workload.size <= 64 ? 10
                                     : 1000) {
  model_ = make_model(model, {.num_classes = classes_, .stem = options.stem});
  model_->to(device);
  if (options.blank)
    inputs_.push_back(
        Tensor::zeros({workload.batch, workload.size, workload.size, 3}, dtype, device, "input"));
  else
    for (uint64_t i = 0; i < kInputs; ++i) inputs_.push_back(random_images(workload, i, dtype, device));
  input_ = inputs_.front();
  if (workload.training) {
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < workload.batch; ++i) labels.push_back(int32_t(i % classes_));
    labels_ = Tensor::from(labels, {workload.batch}, device);
    sgd_ = std::make_unique<Sgd>(model_->parameters(), Sgd::Options{.momentum = 0.9f, .weight_decay = 5e-4f});
  } else {
    model_->eval();
    if (options.fuse) model_->fuse();
  }
}

void ModelRun::prepare() {
  if (!workload_.training) return;
  layer_random().begin_step(int64_t(passes_));
  sgd_->prepare(kLearningRate);
}

void ModelRun::pass() {
  prepare();  // what changes from step to step, and is no part of a recording
  const Tensor& next = inputs_[passes_ % inputs_.size()];
  if (use_graph_ && passes_ == size_t(kPlainPasses)) {
    input_ = next.clone();  // a place of its own: the recording reads this address
    graph_.capture(context_, [this] { compute(); });
  }
  ++passes_;
  if (graph_.captured()) {
    input_.copy_from(next);
    graph_.replay();
  } else {
    input_ = next;
    compute();
  }
}

void ModelRun::compute() {
  if (workload_.training)
    train();
  else
    infer();
}

void ModelRun::infer() {
  const NoGrad no_grad;
  result_ = (*model_)(Variable(input_)).value();
}

void ModelRun::train() {
  static const NamedScope kLoss("loss"), kOptimizer("optimizer");
  const Variable logits = (*model_)(Variable(input_));
  const Variable loss = [&] {
    const Scope scope(kLoss);
    return softmax_cross_entropy(logits, {labels_, {}});
  }();
  sgd_->zero_grad();
  backward(loss, sgd_->loss_scale());
  const Scope scope(kOptimizer);
  sgd_->apply();
  result_ = loss.value();
}

void ModelRun::check() const {
  const std::vector<float> values = cast(Variable(result_), DType::f32).value().to_vector<float>();
  for (const float v : values)
    if (!std::isfinite(v)) fail(ErrorKind::numeric, "{}: the result holds {}", to_string(workload_), v);
}

}  // namespace plume::tools
