#include "engine/ops/sum_rows.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<SumRows> sum_rows_forward{"sum_rows.forward"};

void add_bias_gradient(Gradients& g, int place, const Tensor& dy) {
  if (!g.wants(place)) return;
  Tensor db = Tensor::empty({dy.dim(-1)}, DType::f32, dy.device());
  sum_rows_forward(context(dy.device()), dy, db);
  g.add(place, db);
}

}  // namespace plume
