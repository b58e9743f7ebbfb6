// Automatic augmentation with torchvision's policies (transforms/autoaugment.py, version 0.14): AutoAugment
// (Cubuk et al. 2019, the CIFAR-10 and ImageNet tables), RandAugment (Cubuk et al. 2020), TrivialAugmentWide
// (Mueller, Hutter 2021).
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/images/operations.h"

namespace plume::data {

enum class Policy : uint8_t { none, autoaugment_cifar10, autoaugment_imagenet, randaugment, trivialaugment };
const char* name(Policy policy);
// A name, of which AutoAugment's may go without "autoaugment_". Throws usage.
Policy parse_policy(std::string_view text);
std::vector<std::string> policy_names();

struct PolicyParams {
  Policy policy = Policy::none;
  int64_t randaugment_ops = 2;        // operations per image, 1 to kMostImageOps
  int64_t randaugment_magnitude = 9;  // 0 to 30
};
void check(const PolicyParams& params);  // throws usage

// One operation as a policy names it; not every operation has a magnitude.
struct PolicyOp {
  ImageOpName op;
  double magnitude = 0;
};

// The magnitude of bin `bin` of `bins`: torch.linspace in float and its relatives; unsigned.
double autoaugment_magnitude(ImageOpName op, int bin, int bins, int height, int width);
double trivialaugment_magnitude(ImageOpName op, int bin, int bins);
bool is_signed(ImageOpName op);  // half of the magnitudes are negated

// A row of AutoAugment's tables: each operation is applied when a uniform number is at most its probability.
struct SubPolicy {
  struct Step {
    ImageOpName op;
    double probability;
    int bin;  // of 10
  } steps[2];
};
std::span<const SubPolicy> autoaugment_table(Policy policy);  // 25 rows; empty for the other policies

// Uniform 32-bit numbers, as many as are asked for.
class Draws {
 public:
  virtual ~Draws() = default;
  virtual uint32_t bits() = 0;
  double uniform();  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int below(int bound);  // [0, bound)
  bool coin() { return bits() >> 31 != 0; }
};

std::vector<PolicyOp> draw_policy(const PolicyParams& params, Draws& draws, int height, int width);

}  // namespace plume::data
