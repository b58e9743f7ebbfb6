#include "engine/optim/ema.h"

#include <algorithm>

#include "engine/core/context.h"

namespace plume {

double scaled_ema_decay(double decay, int64_t batch, int64_t update_every, int64_t epochs,
                        int64_t data_set_size) {
  PLUME_CHECK(decay >= 0 && decay <= 1, "ema: decay {} is not from 0 to 1", decay);
  PLUME_CHECK(batch > 0 && update_every > 0 && epochs > 0 && data_set_size > 0,
              "ema: batch {}, an update every {} steps, {} epochs, {} images: expected above 0", batch,
              update_every, epochs, data_set_size);
  constexpr double kImageNet = 1'281'167;
  const double per_epoch = double(batch) * double(update_every) / double(epochs);
  return 1 - std::min(1.0, (1 - decay) * per_epoch * kImageNet / double(data_set_size));
}

Ema::Ema(Module& module) {
  for (const NamedTensor& own : module.state()) entries_.push_back({own, own.tensor->clone("ema")});
  const Device device =
      entries_.empty() ? Device::cpu : module.parameters().front().variable.value().device();
  weight_ = Tensor::zeros({1}, DType::f32, device, "ema");
}

void Ema::prepare(double decay) {
  const auto weight = float(1 - decay);
  to_weight_.send(&weight, sizeof(weight), weight_);
}

void Ema::apply() {
  PLUME_CHECK(!swapped_, "ema: an update while the averages are in use");
  std::vector<AveragedTensor> floats;
  floats.reserve(entries_.size());
  for (Entry& e : entries_) {
    if (e.average.dtype() == DType::f32) floats.push_back({e.average, *e.own.tensor});
  }
  if (!floats.empty()) ema_update(context(weight_.device()), floats, weight_);
}

void Ema::copy_integers() {
  for (Entry& e : entries_)
    if (e.average.dtype() != DType::f32) e.average.copy_from(*e.own.tensor);
}

void Ema::swap() {
  if (!swapped_) copy_integers();
  for (Entry& e : entries_) std::swap(e.average, *e.own.tensor);
  swapped_ = !swapped_;
}

std::vector<NamedTensor> Ema::state() {
  PLUME_CHECK(!swapped_, "ema: the averages are in use");
  copy_integers();
  std::vector<NamedTensor> all;
  for (Entry& e : entries_) all.push_back({e.own.name, &e.average, e.own.filter});
  return all;
}

}  // namespace plume
