#include "engine/ops/sum_rows.h"

namespace plume {

constinit KernelSlot<SumRows> sum_rows_forward{"sum_rows.forward"};

}  // namespace plume
