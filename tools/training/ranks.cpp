#include "tools/training/ranks.h"

#include "tools/cli/signals.h"

namespace plume::tools {
namespace {

std::vector<Variable> variables_of(Module& model) {
  std::vector<Variable> all;
  for (const NamedParameter& p : model.parameters()) all.push_back(p.variable);
  return all;
}

// The entries of the state that are not parameters.
std::vector<Tensor*> buffers_of(Module& model) {
  std::vector<Variable> parameters = variables_of(model);
  std::vector<Tensor*> all;
  for (const NamedTensor& entry : model.state()) {
    bool learned = false;
    for (Variable& p : parameters) learned = learned || &p.value() == entry.tensor;
    if (!learned) all.push_back(entry.tensor);
  }
  return all;
}

}  // namespace

void share_samples(data::SamplerParams& sampler) {
  sampler.rank = Communicator::world().rank();
  sampler.world = Communicator::world().size();
}

uint64_t seed_of_rank(uint64_t seed) {
  return seed + uint64_t(Communicator::world().rank()) * 0x9E3779B97F4A7C15u;
}

TrainingRanks::TrainingRanks(Module& model, bool sync_batch_norm)
    : training_(ranks(), variables_of(model), buffers_of(model)) {
  if (sync_batch_norm) model.synchronize_batch_norms(&ranks());
}

SharedStep TrainingRanks::begin_step(int64_t samples) {
  return training_.begin_step(samples, tools::stop_signal());
}

bool TrainingRanks::any(bool mine) {
  double count = mine ? 1 : 0;
  add_up({&count, 1});
  return count > 0;
}

void TrainingRanks::share(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& entry : tensors) ranks().broadcast(*entry.tensor);
}

void TrainingRanks::backward(const Variable& loss, const Tensor& dy, const SharedStep& step, bool last) {
  Tensor own = dy;
  if (!step.even)  // only in the last step of an epoch: it waits for the device
    own = Tensor::from(std::vector<float>{dy.item() * step.weight * float(size())}, dy.shape(), dy.device());
  if (last)
    training_.backward(loss, own);
  else
    plume::backward(loss, own);
}

Evaluation TrainingRanks::total(const Evaluation& own) {
  Evaluation all = own;
  std::vector<int64_t> counters = own.metrics.counters();
  ranks().all_reduce(std::span(counters));
  all.metrics.set_counters(counters);
  double loss = own.loss * double(own.metrics.count());
  ranks().all_reduce(std::span(&loss, 1));
  all.loss = all.metrics.count() ? loss / double(all.metrics.count()) : 0.0;
  ranks().all_reduce(std::span(&all.seconds, 1), Reduction::max);
  return all;
}

}  // namespace plume::tools
