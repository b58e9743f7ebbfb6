// A training of a few steps that is small enough to be done a thousand times.
#pragma once
#include <string>
#include <vector>

#include "engine/modules/layers.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/layer_random.h"
#include "tools/training/step.h"

namespace plume::test {

class SmallNetOnStandIn : public Module {
 public:
  SmallNetOnStandIn() {
    register_module("conv", conv_), register_module("norm", norm_), register_module("head", head_);
    RandomSequence random(1);
    initialize(random);
  }
  Variable forward(const Variable& x) override { return head_(global_avg_pool(norm_(conv_(x)))); }

 private:
  Conv2d conv_{3, 4, 3, {.stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d norm_{4, {.activation = Activation::relu}};
  Linear head_{4, 3};
};

struct SmallTraining {
  std::vector<float> losses;
  std::vector<std::string> said;
};

// Steps of two passes of two images, with all that a step can have.
class SmallTrainer {
 public:
  explicit SmallTrainer(bool graph) : learner_(make_learner()), step_(make_step(graph)) {
    layer_random().seed(1);
  }
  // `passes`: fewer than two make it a short step.
  void start(int s, int passes = 2) { start(s, batches(s, passes)); }
  void start(int s, const std::vector<data::Batch>& with) { step_->start(with, s, 0.01f); }
  float loss() {
    const tools::TrainingStep::Result r = step_->result();
    return float(r.loss_sum / double(r.images));
  }
  std::vector<std::string> said;

  static constexpr int64_t kBatch = 2, kSide = 6;
  // As the loader leaves them: on the device.
  static std::vector<data::Batch> batches(int s, int passes) {
    std::vector<data::Batch> made;
    for (int pass = 0; pass < passes; ++pass) {
      std::vector<float> pixels(size_t(kBatch * kSide * kSide * 3));
      for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = float((i * 7 + size_t(s + pass)) % 11) / 5 - 1;
      data::Batch batch;
      batch.images = Tensor::from(pixels, {kBatch, kSide, kSide, 3}, Device::cuda);
      batch.labels = Tensor::from(std::vector<int32_t>{s % 3, (s + 1) % 3}, {kBatch}, Device::cuda);
      batch.count = kBatch;
      made.push_back(std::move(batch));
    }
    return made;
  }

 private:
  static tools::Learner make_learner() {
    tools::Learner learner;
    learner.model = std::make_unique<SmallNetOnStandIn>();
    learner.model->to(Device::cuda);
    learner.model->train();
    OptimizerOptions options = default_options("adam");
    options.clip_norm = 1;
    options.loss_scaling.enabled = true;
    learner.optimizer = std::make_unique<Optimizer>(learner.model->parameters(), options);
    learner.ema = std::make_unique<Ema>(*learner.model);
    learner.ranks = std::make_unique<tools::TrainingRanks>(*learner.model, false);
    return learner;
  }
  std::unique_ptr<tools::TrainingStep> make_step(bool graph) {
    tools::StepParams params{.batch = kBatch, .passes = 2, .precision = DType::f16, .ema_decay = 0.9};
    params.mix = {0.2f, 1.0f};
    params.classes = 3;
    params.graph = graph;
    return std::make_unique<tools::TrainingStep>(learner_, params, Device::cuda,
                                                 [this](const std::string& line) { said.push_back(line); });
  }
  tools::Learner learner_;
  std::unique_ptr<tools::TrainingStep> step_;
};

// Of which the last step is a short one.
inline SmallTraining train_small(bool graph, int steps = 4) {
  SmallTrainer trainer(graph);
  SmallTraining result;
  for (int s = 0; s < steps; ++s) {
    trainer.start(s, s + 1 == steps ? 1 : 2);
    result.losses.push_back(trainer.loss());
  }
  result.said = trainer.said;
  return result;
}

}  // namespace plume::test
