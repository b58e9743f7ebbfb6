#include "engine/modules/batch_statistics.h"

namespace plume {

BatchStatistics::BatchStatistics(Module& module) : module_(module) {
  module.eval();
  module.for_each([this](Module& m) {
    if (auto* norm = dynamic_cast<BatchNorm2d*>(&m); norm && norm->weight.requires_grad()) {
      norms_.push_back({norm, norm->params.momentum, *norm->num_batches_tracked.data<int64_t>()});
      norm->collect(true);
    }
  });
}

BatchStatistics::~BatchStatistics() {
  for (const Norm& norm : norms_) {
    norm.module->collect(false);
    norm.module->params.momentum = norm.momentum;
    *norm.module->num_batches_tracked.data<int64_t>() = norm.batches;
  }
}

void BatchStatistics::add(const Variable& images) {
  const NoGrad no_grad;
  ++added_;
  // The first batch replaces what was there, the n-th has a share of 1 / n.
  for (const Norm& norm : norms_) norm.module->params.momentum = 1.0f / float(added_);
  module_(images);
}

}  // namespace plume
