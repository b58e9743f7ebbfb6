// check_op: a test states the case, the harness does the rest.
//
//   check_op({.slot = relu_forward,
//             .inputs = {{"x", shape}},
//             .outputs = {{"y", shape}},
//             .run = [](Context& c, Tensors& t) { relu_forward(c, t["x"], t["y"]); },
//             .reference = [](Arrays& a) { reference::relu(a["x"], a["y"]); },
//             .op = [](Variables& v) { return relu(v["x"]); }});
//
// For every device under test, every variant of the slot that fits and every dtype (f32, bf16, f16) it
// - fills the inputs (outliers and exact zeros among them) and poisons the outputs with NaN,
// - runs the variant, then compares every output with the reference, within what the arithmetic of the dtype
//   explains (array.h), and verifies that inputs and the memory around the outputs are unchanged,
// - on the cpu computes the outputs again with loops cut into the smallest pieces, on 2, 3 and 8 threads: not
//   a bit may differ;
// and, where `op` is given and the case is small, checks the gradient of the public operation against finite
// differences of the reference. Each variant that ran is remembered: coverage.h fails the suite if one never
// did.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "tests/support/array.h"
#include "tests/support/fill.h"

namespace plume::test {

// One tensor of a case. Without a dtype it has the dtype under test.
struct Operand {
  const char* name;
  Shape shape;
  Fill fill = outliers();  // inputs and updated operands; ignored for outputs
  std::optional<DType> dtype = {};
  bool differentiable = true;  // false: a constant of the gradient check
};

// Absent operands read as undefined, so that one lambda serves cases with and without a bias.
using Tensors = std::map<std::string, Tensor>;
using Variables = std::map<std::string, Variable>;

struct OpCase {
  KernelSlotBase& slot;
  std::string label = {};  // what the shapes do not tell: stride, padding, ...
  std::vector<Operand> inputs;
  std::vector<Operand> updated = {};  // read and written: running statistics, parameters
  std::vector<Operand> outputs;
  std::function<void(Context&, Tensors&)> run;  // calls the slot
  // Computes outputs and updated operands, from arrays that hold the values of inputs and updated operands.
  std::function<void(Arrays&)> reference;
  // The public operation, whose value is the first output.
  std::function<Variable(Variables&)> op = {};
  std::vector<DType> dtypes = {DType::f32, DType::bf16, DType::f16};
  // Variants that mix neighbouring outputs and cancel them again (Winograd): errors of this much of the
  // largest magnitude in an output are theirs by construction.
  std::map<std::string, double> coarse = {};
  // The variant that runs, where a case is too large for others; devices that lack it are passed by.
  std::string only = {};
};

// Gradients are checked for cases whose inputs have no more elements than this.
inline constexpr int64_t kGradientElements = 4096;

void check_op(const OpCase& op_case);
// The same, as lines of text instead of test failures.
std::vector<std::string> op_failures(const OpCase& op_case);

// All that can be used here, or the one chosen by --device.
const std::vector<Device>& devices_under_test();
void set_devices_under_test(std::vector<Device> devices);

// 1x1x1 to 3x31x31 images with 1, 3, 17 and 64 channels.
std::vector<Shape> odd_images();

}  // namespace plume::test
