// sgd_step, adam_step, rmsprop_step: all parameters in one launch, or one per table (common/tensor_table.h).
// The numbers that change from step to step are read from the device's memory; a step that is to be skipped
// ends there. The scale of the loss, clipping and weight decay are applied on the way: no pass of their own.
//
// Bytes: reads parameter, gradient and what the rule keeps, writes all but the gradient: 3 values per element
// for plain SGD, 5 with one array kept, 7 with two; and 2 bytes for the parameter in 16 bits, where the
// network computes with that. 4 to 15 FLOPs each: the bound is memory bandwidth.
#include "engine/ops/optimizer_step.h"

#include "kernels/common/tensor_table.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class Params>
struct Arguments {
  Params params;
  const StepControl* control;
};

enum StepArray { kParameter, kGradient, kFirst, kSecond, kStepArrays };
constexpr unsigned kWritten = 1u << kParameter | 1u << kFirst | 1u << kSecond;

struct StepEntry : TableEntry<kStepArrays> {
  void* rounded;  // the parameter in 16 bits, or null
};

template <class Params>
using StepTable = TensorTable<Arguments<Params>, StepEntry>;

// Rounded: the type of the tables' copies.
template <class Rule, class Params, class Rounded>
__global__ void __launch_bounds__(kTableThreads) step_table(const StepTable<Params> table) {
  static_assert(sizeof(table) <= 4096, "kernel arguments");
  const StepControl control = *table.params.control;
  if (control.skip != 0.0f) return;
  const auto& entry = table.entry_of_block();
  const Rule rule(table.params.params, control.learning_rate * entry.rate_factor, entry.weight_decay,
                  control);
  for_each_value<kWritten>(
      entry,
      [&](float(&v)[kStepArrays]) {
        rule(v[kParameter], control.gradient(v[kGradient]), v[kFirst], v[kSecond]);
      },
      RoundedArray<Rounded, kParameter>{static_cast<Rounded*>(entry.rounded)});
}

template <class Rule, class Params>
void run_step(Context& context, std::vector<StepTensor>& tensors, const Tensor& control,
              const Params& params) {
  const auto launch_tables = [&](auto rounded) {
    for_each_table<StepTable<Params>>(
        context, {params, control_of(control)}, tensors.size(),
        [&](size_t i) -> StepEntry {
          StepTensor& t = tensors[i];
          return {{{array_of(t.parameter), array_of(t.gradient), array_of(t.first), array_of(t.second)},
                   table_size(t.parameter),
                   0,
                   t.rate_factor,
                   t.weight_decay},
                  t.rounded.raw()};
        },
        [](const StepTable<Params>& table, const simt::Launch& launch) {
          simt::launch<step_table<Rule, Params, decltype(rounded)>>(launch, table);
        });
  };
  const auto first =
      std::find_if(tensors.begin(), tensors.end(), [](const StepTensor& t) { return t.rounded.defined(); });
  if (first != tensors.end() && first->rounded.dtype() == DType::f16)
    launch_tables(f16{});
  else
    launch_tables(bf16{});
}

const bool optimizer_step_registered =
    sgd_step.add(kThisDevice, {{"one_launch", always, run_step<SgdRule, SgdParams>}}) &&
    adam_step.add(kThisDevice, {{"one_launch", always, run_step<AdamRule, AdamParams>}}) &&
    rmsprop_step.add(kThisDevice, {{"one_launch", always, run_step<RmspropRule, RmspropParams>}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
