// One network doing one kind of work over random images: what the model benchmarks time, the operation
// benchmarks take their shapes from and `profile` looks into.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/graph.h"
#include "engine/modules/module.h"
#include "engine/optim/sgd.h"
#include "models/registry.h"

namespace plume::tools {

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
  struct Options {
    bool graph = false;  // record a pass after two plain ones and replay it (hosts just run it again)
    bool fuse = true;    // inference with batch norms folded and blocks fused
    int classes = 0;     // 0: 10 up to 64x64 images, 1000 above
    Stem stem = Stem::imagenet;
    bool blank = false;  // one input of zeros: for passes that are counted, not computed
  };
  // Inference: evaluation mode, no gradients. Training: forward, cross-entropy, backward, SGD with momentum
  // and weight decay.
  ModelRun(const std::string& model, const Workload& workload, DType dtype, Device device,
           const Options& options);

  static constexpr int kPlainPasses = 2;  // before a recorded one
  void pass();                            // enqueues one; inputs rotate
  Module& model() { return *model_; }
  int classes() const { return classes_; }
  void synchronize() const { context_.synchronize(); }
  // Throws a numeric error when the last pass left something that is not finite.
  void check() const;

 private:
  void prepare();
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
  int classes_;
  size_t passes_ = 0;
  StepGraph graph_;
};

}  // namespace plume::tools
