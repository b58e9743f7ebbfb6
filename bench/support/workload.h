// One network doing one kind of work over random images: what the model benchmarks time and the operation
// benchmarks take their shapes from.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/graph.h"
#include "engine/modules/module.h"
#include "engine/optim/sgd.h"

namespace plume::bench {

struct Workload {
  bool training = false;
  int size = 224;  // image height and width
  int64_t batch = 1;
};
// "inference:224:16", "training:32:64"; throws usage.
Workload parse_workload(std::string_view text);
std::string to_string(const Workload& workload);  // the same form

// f32, bf16, f16; all of them when the list is empty. Throws usage.
std::vector<DType> parse_dtypes(const std::vector<std::string>& names);

class ModelRun {
 public:
  // Inference: evaluation mode, fused, no gradients. Training: forward, cross-entropy, backward, SGD with
  // momentum and weight decay. 10 classes up to 64x64 images, 1000 above. With `graph` a pass is recorded
  // after two plain ones and replayed (devices that cannot record just run it again).
  ModelRun(const std::string& model, const Workload& workload, DType dtype, Device device, bool graph);

  void pass();  // enqueues one; inputs rotate
  void synchronize() const { context_.synchronize(); }
  // Throws a numeric error when the last pass left something that is not finite.
  void check() const;

 private:
  void compute();
  void infer();
  void train();

  Workload workload_;
  Context& context_;
  std::unique_ptr<Module> model_;
  std::unique_ptr<Sgd> sgd_;
  std::vector<Tensor> inputs_;
  Tensor input_, labels_, result_;  // result: logits or loss
  bool use_graph_;
  size_t passes_ = 0;
  StepGraph graph_;
};

}  // namespace plume::bench
