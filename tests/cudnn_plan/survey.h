// Every kind of convolution that the networks and the operations' tests ask of cuDNN, and what cuDNN says.
#pragma once
#include <array>
#include <set>
#include <string>
#include <vector>

namespace plume::test {

enum class Arithmetic { f32, tf32, f16, bf16 };
inline constexpr std::array<const char*, 4> kArithmetics = {"f32", "tf32", "f16", "bf16"};

// What became of the shapes of one class in one arithmetic.
struct Answer {
  int shapes = 0;                  // asked; of kernels compiled at run time one for each filter and stride
  int whole = 0;                   // the operation is one plan
  int sums = 0;                    // a plan of its f32 sums, and a kernel of ours behind it
  int refused = 0;                 // no plan at all
  int compiled = 0;                // plans with kernels compiled at run time
  std::set<std::string> patterns;  // of the whole plans, as cuDNN names them
  double workspace = 0;            // MiB, the largest
  int missing = 0;                 // operands that were not given
  std::string example;             // a shape without a plan of the whole
};

struct Class {
  std::string name;  // "forward dense shift relu"
  std::array<Answer, kArithmetics.size()> answers;
};

// The networks at 224 (32 images) and at 32 (64 images), training and inference. In the order of first calls.
std::vector<Class> survey_networks();
// The shapes of tests/ops/convolution_cases.h: odd channels, planes of one pixel, all parts of an epilogue.
// The names end with "(odd)".
std::vector<Class> survey_operations();

}  // namespace plume::test
