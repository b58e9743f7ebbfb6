#include "tests/support/check_op.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "engine/autograd/gradient_check.h"
#include "engine/core/thread_pool.h"
#include "tests/support/coverage.h"
#include "tests/support/guarded_tensor.h"

namespace plume::test {
namespace {

constexpr double kFloatUnit = 0x1p-24;
// The bound in Real is first order, and libraries reorder and split sums as they like.
constexpr double kSlack = 2;

struct Rounding {
  double unit, smallest, largest;  // relative error, half the smallest subnormal, largest finite value
};
Rounding rounding(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return {0x1p-8, 0x1p-134, 3.3895313892515355e38};
    case DType::f16:
      return {0x1p-11, 0x1p-25, 65504};
    default:
      return {kFloatUnit, 0x1p-148, double(std::numeric_limits<float>::max())};
  }
}

std::string index_text(const Shape& shape, int64_t i) {
  std::string text;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    text = std::to_string(i % shape[d]) + (text.empty() ? "" : ", ") + text;
    i /= shape[d];
  }
  return "[" + text + "]";
}

// Empty when every element is what the reference explains, give or take `coarse` of the largest.
std::string difference(const Tensor& tensor, const Array& expected, double coarse) {
  if (tensor.shape() != expected.shape) return message("the reference has shape {}", expected.shape);
  const std::vector<double> got = to_doubles(tensor);
  const bool exact = !is_floating(tensor.dtype());
  const Rounding r = rounding(tensor.dtype());
  double everywhere = r.smallest;
  if (coarse > 0)
    for (const Real& want : expected.values)
      everywhere = std::max(everywhere, coarse * std::fabs(want.value));
  std::string first;
  int64_t wrong = 0;
  for (int64_t i = 0; i < expected.size(); ++i) {
    const Real want = expected[i];
    const double value = got[size_t(i)];
    const double allowed =
        exact ? 0 : kSlack * kFloatUnit * want.error + r.unit * std::fabs(want.value) + everywhere;
    const bool overflows = std::fabs(want.value) + allowed > r.largest;
    const bool fine = std::fabs(value - want.value) <= allowed ||
                      (std::isnan(want.value) && std::isnan(value)) ||
                      (overflows && std::isinf(value) && value * want.value > 0);
    if (fine) continue;
    if (wrong++ == 0)
      first =
          message("{} is {}, expected {} +- {}", index_text(expected.shape, i), value, want.value, allowed);
  }
  return wrong ? message("{}; {} of {} elements are wrong", first, wrong, expected.size()) : "";
}

std::string bytes_of(const Tensor& tensor) {
  const Tensor host = tensor.to(Device::cpu);
  return {static_cast<const char*>(host.raw()), host.bytes()};
}

DType dtype_of_operand(const Operand& o, DType under_test) { return o.dtype.value_or(under_test); }

uint64_t seed_of(const OpCase& c, DType dtype) {
  uint64_t seed = uint64_t(dtype) + 1;
  for (const std::vector<Operand>* list : {&c.inputs, &c.updated})
    for (const Operand& o : *list)
      for (const int64_t extent : o.shape) seed = seed * 1000003 + uint64_t(extent);
  return seed;
}

// The values of inputs and updated operands, as they are after rounding to their dtype.
std::map<std::string, Tensor> make_inputs(const OpCase& c, DType dtype, bool gentle) {
  RandomSequence random(seed_of(c, dtype));
  std::map<std::string, Tensor> tensors;
  for (const std::vector<Operand>* list : {&c.inputs, &c.updated})
    for (const Operand& o : *list)
      tensors[o.name] =
          to_tensor(o.fill(o.shape, random, gentle), o.shape, dtype_of_operand(o, dtype), Device::cpu);
  return tensors;
}

Array to_array(const Shape& shape, const std::vector<double>& values) {
  Array array(shape);
  for (int64_t i = 0; i < array.size(); ++i) array[i] = values[size_t(i)];
  return array;
}

Arrays reference_results(const OpCase& c, const std::map<std::string, Tensor>& inputs) {
  Arrays arrays;
  for (const auto& [name, tensor] : inputs) arrays[name] = to_array(tensor.shape(), to_doubles(tensor));
  for (const Operand& o : c.outputs) arrays[o.name] = Array(o.shape);
  c.reference(arrays);
  return arrays;
}

class ForcedVariant {
 public:
  ForcedVariant(KernelSlotBase& slot, Device device, int i) : slot_(slot), device_(device) {
    slot.force(device, slot.variant_name(device, i));
  }
  ~ForcedVariant() { slot_.force(device_, ""); }
  ForcedVariant(const ForcedVariant&) = delete;
  ForcedVariant& operator=(const ForcedVariant&) = delete;

 private:
  KernelSlotBase& slot_;
  Device device_;
};

std::string case_text(const OpCase& c, DType dtype, Device device) {
  std::string shapes;
  for (const Operand& o : c.inputs) shapes += message(" {} {}", o.name, o.shape);
  return message("{} on {}, {},{}{}{}", c.slot.name(), device, dtype, shapes, c.label.empty() ? "" : ", ",
                 c.label);
}

struct VariantRun {
  bool fits = false;
  std::string refusal;  // why it does not
  std::vector<std::string> failures;
};

VariantRun run_variant(const OpCase& c, DType dtype, Device device, int variant,
                       const std::map<std::string, Tensor>& inputs, const Arrays& expected) {
  VariantRun result;
  std::vector<std::pair<const Operand*, GuardedTensor>> written;
  Tensors tensors;
  for (const Operand& o : c.inputs) tensors[o.name] = inputs.at(o.name).clone().to(device);
  for (const Operand& o : c.updated) written.emplace_back(&o, inputs.at(o.name).to(device));
  for (const Operand& o : c.outputs)
    written.emplace_back(&o, GuardedTensor(o.shape, dtype_of_operand(o, dtype), device));
  for (const auto& [o, guarded] : written) tensors[o->name] = guarded.tensor();

  Context& context = plume::context(device);
  const uint64_t runs_before = c.slot.runs(device, variant);
  try {
    const ForcedVariant forced(c.slot, device, variant);
    c.run(context, tensors);
    context.synchronize();
  } catch (const Error& error) {
    if (c.slot.runs(device, variant) == runs_before) {  // refused before it began
      result.refusal = error.what();
      return result;
    }
    result.failures.push_back(message("threw: {}", error.what()));
  }
  result.fits = c.slot.runs(device, variant) > runs_before;
  if (!result.fits) {
    result.refusal = "run() did not call the slot";
    return result;
  }
  remember_run(c.slot.name(), device, c.slot.variant_name(device, variant));

  const auto allowance = c.coarse.find(c.slot.variant_name(device, variant));
  const double coarse = allowance == c.coarse.end() ? 0 : allowance->second;
  for (const auto& [o, guarded] : written) {
    const std::string wrong = difference(guarded.tensor(), expected.at(o->name), coarse);
    if (!wrong.empty()) result.failures.push_back(message("{}{}", o->name, wrong));
    const std::string overrun = guarded.overrun();
    if (!overrun.empty()) result.failures.push_back(message("{}: {}", o->name, overrun));
  }
  for (const Operand& o : c.inputs)
    if (bytes_of(tensors[o.name]) != bytes_of(inputs.at(o.name)))
      result.failures.push_back(message("{}: the input was changed", o.name));
  return result;
}

// Which outputs and updated operands depend on the number of threads.
std::vector<std::string> thread_failures(const OpCase& c, DType dtype, int variant,
                                         const std::map<std::string, Tensor>& inputs) {
  std::vector<std::string> failures;
  std::map<std::string, std::string> on_one_thread;
  const int threads_before = compute_threads();
  for (const int threads : {1, 2, 3, 8}) {
    set_compute_threads(threads);
    share_every_loop(threads > 1);
    Tensors tensors;
    for (const std::vector<Operand>* list : {&c.inputs, &c.updated})
      for (const Operand& o : *list) tensors[o.name] = inputs.at(o.name).clone();
    for (const Operand& o : c.outputs)
      tensors[o.name] = Tensor::zeros(o.shape, dtype_of_operand(o, dtype), Device::cpu);
    const uint64_t runs_before = c.slot.runs(Device::cpu, variant);
    try {
      const ForcedVariant forced(c.slot, Device::cpu, variant);
      c.run(context(Device::cpu), tensors);
    } catch (const Error& error) {  // it may be meant for other numbers of threads
      if (c.slot.runs(Device::cpu, variant) == runs_before && threads > 1) continue;
      failures.push_back(message("threw on {} threads: {}", threads, error.what()));
    }
    for (const std::vector<Operand>* list : {&c.updated, &c.outputs})
      for (const Operand& o : *list) {
        std::string bytes = bytes_of(tensors[o.name]);
        if (threads == 1)
          on_one_thread[o.name] = std::move(bytes);
        else if (bytes != on_one_thread[o.name])
          failures.push_back(message("{}: differs with {} threads", o.name, threads));
      }
  }
  share_every_loop(false);
  set_compute_threads(threads_before);
  return failures;
}

// Two roundings to the dtype on the way there, and float sums whose terms may cancel.
double gradient_tolerance(DType dtype) { return dtype == DType::f32 ? 5e-5 : 2 * rounding(dtype).unit; }

std::vector<std::string> gradient_failures(const OpCase& c, DType dtype, Device device) {
  const std::map<std::string, Tensor> values = make_inputs(c, dtype, true);
  std::vector<std::string> names;
  std::vector<Tensor> inputs;
  std::map<std::string, Tensor> constants;
  for (const std::vector<Operand>* list : {&c.inputs, &c.updated})
    for (const Operand& o : *list) {
      const Tensor value = values.at(o.name).clone().to(device);
      if (o.differentiable && is_floating(value.dtype()) && list == &c.inputs) {
        names.emplace_back(o.name);
        inputs.push_back(value);
      } else {
        constants[o.name] = value;
      }
    }
  const auto op = [&](std::vector<Variable>& leaves) {
    Variables variables;
    for (const auto& [name, tensor] : constants) variables[name] = Variable(tensor);
    for (size_t i = 0; i < names.size(); ++i) variables[names[i]] = leaves[i];
    return c.op(variables);
  };
  Arrays arrays;
  for (const auto& [name, tensor] : values) arrays[name] = to_array(tensor.shape(), to_doubles(tensor));
  for (const Operand& o : c.outputs) arrays[o.name] = Array(o.shape);
  const auto reference = [&](const std::vector<std::vector<double>>& point) {
    Arrays moved = arrays;
    for (size_t i = 0; i < names.size(); ++i) moved[names[i]] = to_array(moved[names[i]].shape, point[i]);
    c.reference(moved);
    std::vector<double> out;
    for (const Real& v : moved.at(c.outputs.front().name).values) out.push_back(v.value);
    return out;
  };
  GradientCheckOptions options;
  options.tolerance = gradient_tolerance(dtype);
  options.seed = seed_of(c, dtype);
  std::vector<std::string> failures = check_gradients(op, reference, inputs, options);
  std::string order;
  for (const std::string& name : names) order += " " + name;
  for (std::string& failure : failures) failure = message("gradient of{}: {}", order, failure);
  return failures;
}

int64_t input_elements(const OpCase& c) {
  int64_t elements = 0;
  for (const Operand& o : c.inputs) elements += o.shape.elements();
  return elements;
}

std::vector<Device>& device_list() {
  static std::vector<Device> devices = [] {
    std::vector<Device> all{Device::cpu, Device::simt};
    if (cuda_available()) all.push_back(Device::cuda);
    return all;
  }();
  return devices;
}

// No device under test has the one variant that is asked for.
bool asks_for_missing_variant(const OpCase& c) {
  if (c.only.empty()) return false;
  for (const Device device : devices_under_test())
    for (int i = 0; i < c.slot.variant_count(device); ++i)
      if (c.slot.variant_name(device, i) == c.only) return false;
  return true;
}

}  // namespace

std::vector<std::string> op_failures(const OpCase& c) {
  std::vector<std::string> failures;
  if (asks_for_missing_variant(c)) return failures;  // before a reference is made for nobody
  for (const DType dtype : c.dtypes) {
    const std::map<std::string, Tensor> inputs = make_inputs(c, dtype, false);
    const Arrays expected = reference_results(c, inputs);
    for (const Device device : devices_under_test()) {
      const std::string where = case_text(c, dtype, device);
      std::string refusals;
      bool any = false, tried = c.only.empty();
      for (int i = 0; i < c.slot.variant_count(device); ++i) {
        const std::string variant = c.slot.variant_name(device, i);
        if (!is_under_test(variant) || (!c.only.empty() && variant != c.only)) continue;
        tried = true;
        VariantRun run = run_variant(c, dtype, device, i, inputs, expected);
        if (device == Device::cpu && run.fits)
          for (std::string& failure : thread_failures(c, dtype, i, inputs))
            run.failures.push_back(std::move(failure));
        any = any || run.fits;
        if (!run.fits) refusals += "\n  " + run.refusal;
        for (const std::string& failure : run.failures)
          failures.push_back(message("{}, variant {}: {}", where, variant, failure));
      }
      if (!any && tried) failures.push_back(message("{}: no variant fits{}", where, refusals));
      if (c.op && any && input_elements(c) <= kGradientElements)
        for (const std::string& failure : gradient_failures(c, dtype, device))
          failures.push_back(message("{}: {}", where, failure));
    }
  }
  return failures;
}

void check_op(const OpCase& op_case) {
  for (const std::string& failure : op_failures(op_case)) ADD_FAILURE() << failure;
}

const std::vector<Device>& devices_under_test() { return device_list(); }
void set_devices_under_test(std::vector<Device> devices) { device_list() = std::move(devices); }

std::vector<Shape> odd_images() {
  return {{1, 1, 1, 1},  {3, 1, 1, 17},  {1, 7, 7, 3},  {3, 7, 1, 64},
          {3, 7, 7, 17}, {1, 31, 31, 3}, {3, 31, 7, 1}, {1, 7, 31, 64}};
}

}  // namespace plume::test
