// Exponential moving averages of a network's weights and of its batch norms' statistics, for evaluation.
//
//   Ema ema(net);
//   ... optimizer.apply(); ema.apply();        // device work, may be recorded
//   { const AveragedWeights averaged(ema); evaluate(net); }
#pragma once
#include <vector>

#include "engine/memory/staging.h"
#include "engine/modules/module.h"
#include "engine/ops/ema_update.h"

namespace plume {

// The decay per update with which torchvision's training averages: `decay` is given for a run of one epoch
// with one image per update,
//   1 - min(1, (1 - decay) * batch * update_every / epochs * scale)
// where scale = 1 281 167 / data_set_size makes up for data sets smaller than ImageNet, on which the usual
// decay would hardly average.
double scaled_ema_decay(double decay, int64_t batch, int64_t update_every, int64_t epochs,
                        int64_t data_set_size);

class Ema {
 public:
  // The averages begin as copies of the module's state, on its device. The module outlives the Ema and stays
  // there.
  explicit Ema(Module& module);

  // Floats are averaged:  average <- decay * average + (1 - decay) * value. A decay of 0 copies. Integers are
  // the module's own: its counts are of the host, which a replay does not see, and are read where they are.
  void prepare(double decay);  // before apply(), and before a recorded one is replayed
  void apply();
  void update(double decay) {
    prepare(decay);
    apply();
  }

  // Exchanges the averages and the module's own state; again, and all is as before. Fused weights must be
  // fused anew. Tensors change places, nothing is copied.
  void swap();

  // For a checkpoint: the averages under the names of the module's state. Not while swapped.
  std::vector<NamedTensor> state();

 private:
  void copy_integers();

  struct Entry {
    NamedTensor own;
    Tensor average;
  };
  std::vector<Entry> entries_;
  Tensor weight_;
  Upload to_weight_;
  bool swapped_ = false;
};

// While alive, the module computes with its averages.
class AveragedWeights {
 public:
  explicit AveragedWeights(Ema& ema) : ema_(ema) { ema_.swap(); }
  ~AveragedWeights() { ema_.swap(); }
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  Ema& ema_;
};

}  // namespace plume
