#include "data/augment/policies.h"

#include <cmath>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/math/augment_plan.h"

namespace plume::data {
namespace {

using Op = ImageOpName;

constexpr const char* kPolicyNames[] = {"none", "autoaugment_cifar10", "autoaugment_imagenet", "randaugment",
                                        "trivialaugment"};
constexpr int kPolicies = int(std::size(kPolicyNames));
constexpr int kAutoAugmentBins = 10, kOtherBins = 31;

constexpr SubPolicy kCifar10[] = {
    {{{Op::invert, 0.1, 0}, {Op::contrast, 0.2, 6}}},
    {{{Op::rotate, 0.7, 2}, {Op::translate_x, 0.3, 9}}},
    {{{Op::sharpness, 0.8, 1}, {Op::sharpness, 0.9, 3}}},
    {{{Op::shear_y, 0.5, 8}, {Op::translate_y, 0.7, 9}}},
    {{{Op::autocontrast, 0.5, 0}, {Op::equalize, 0.9, 0}}},
    {{{Op::shear_y, 0.2, 7}, {Op::posterize, 0.3, 7}}},
    {{{Op::color, 0.4, 3}, {Op::brightness, 0.6, 7}}},
    {{{Op::sharpness, 0.3, 9}, {Op::brightness, 0.7, 9}}},
    {{{Op::equalize, 0.6, 0}, {Op::equalize, 0.5, 0}}},
    {{{Op::contrast, 0.6, 7}, {Op::sharpness, 0.6, 5}}},
    {{{Op::color, 0.7, 7}, {Op::translate_x, 0.5, 8}}},
    {{{Op::equalize, 0.3, 0}, {Op::autocontrast, 0.4, 0}}},
    {{{Op::translate_y, 0.4, 3}, {Op::sharpness, 0.2, 6}}},
    {{{Op::brightness, 0.9, 6}, {Op::color, 0.2, 8}}},
    {{{Op::solarize, 0.5, 2}, {Op::invert, 0.0, 0}}},
    {{{Op::equalize, 0.2, 0}, {Op::autocontrast, 0.6, 0}}},
    {{{Op::equalize, 0.2, 0}, {Op::equalize, 0.6, 0}}},
    {{{Op::color, 0.9, 9}, {Op::equalize, 0.6, 0}}},
    {{{Op::autocontrast, 0.8, 0}, {Op::solarize, 0.2, 8}}},
    {{{Op::brightness, 0.1, 3}, {Op::color, 0.7, 0}}},
    {{{Op::solarize, 0.4, 5}, {Op::autocontrast, 0.9, 0}}},
    {{{Op::translate_y, 0.9, 9}, {Op::translate_y, 0.7, 9}}},
    {{{Op::autocontrast, 0.9, 0}, {Op::solarize, 0.8, 3}}},
    {{{Op::equalize, 0.8, 0}, {Op::invert, 0.1, 0}}},
    {{{Op::translate_y, 0.7, 9}, {Op::autocontrast, 0.9, 0}}},
};
constexpr SubPolicy kImagenet[] = {
    {{{Op::posterize, 0.4, 8}, {Op::rotate, 0.6, 9}}},
    {{{Op::solarize, 0.6, 5}, {Op::autocontrast, 0.6, 0}}},
    {{{Op::equalize, 0.8, 0}, {Op::equalize, 0.6, 0}}},
    {{{Op::posterize, 0.6, 7}, {Op::posterize, 0.6, 6}}},
    {{{Op::equalize, 0.4, 0}, {Op::solarize, 0.2, 4}}},
    {{{Op::equalize, 0.4, 0}, {Op::rotate, 0.8, 8}}},
    {{{Op::solarize, 0.6, 3}, {Op::equalize, 0.6, 0}}},
    {{{Op::posterize, 0.8, 5}, {Op::equalize, 1.0, 0}}},
    {{{Op::rotate, 0.2, 3}, {Op::solarize, 0.6, 8}}},
    {{{Op::equalize, 0.6, 0}, {Op::posterize, 0.4, 6}}},
    {{{Op::rotate, 0.8, 8}, {Op::color, 0.4, 0}}},
    {{{Op::rotate, 0.4, 9}, {Op::equalize, 0.6, 0}}},
    {{{Op::equalize, 0.0, 0}, {Op::equalize, 0.8, 0}}},
    {{{Op::invert, 0.6, 0}, {Op::equalize, 1.0, 0}}},
    {{{Op::color, 0.6, 4}, {Op::contrast, 1.0, 8}}},
    {{{Op::rotate, 0.8, 8}, {Op::color, 1.0, 2}}},
    {{{Op::color, 0.8, 8}, {Op::solarize, 0.8, 7}}},
    {{{Op::sharpness, 0.4, 7}, {Op::invert, 0.6, 0}}},
    {{{Op::shear_x, 0.6, 5}, {Op::equalize, 1.0, 0}}},
    {{{Op::color, 0.4, 0}, {Op::equalize, 0.6, 0}}},
    {{{Op::equalize, 0.4, 0}, {Op::solarize, 0.2, 4}}},
    {{{Op::solarize, 0.6, 5}, {Op::autocontrast, 0.6, 0}}},
    {{{Op::invert, 0.6, 0}, {Op::equalize, 1.0, 0}}},
    {{{Op::color, 0.6, 4}, {Op::contrast, 1.0, 8}}},
    {{{Op::equalize, 0.8, 0}, {Op::equalize, 0.6, 0}}},
};

// torch.linspace(start, end, bins)[bin]. The product is exact in double and rounded by the cast, before
// anything is added to it.
float linspace(float start, float end, int bin, int bins) {
  const float step = (end - start) / float(bins - 1);
  if (bin < bins / 2) return start + float(double(step) * bin);
  return end - float(double(step) * (bins - 1 - bin));
}

// 8 - round(bin / ((bins - 1) / range)), halves to even.
double posterize_bits(int bin, int bins, int range) {
  const float divisor = float(double(bins - 1) / range);
  return 8 - double(std::nearbyint(float(bin) / divisor));
}

double signed_magnitude(Op op, double magnitude, bool negative) {
  return is_signed(op) && negative ? -magnitude : magnitude;
}

}  // namespace

const char* name(Policy policy) { return kPolicyNames[size_t(policy)]; }

std::vector<std::string> policy_names() { return {kPolicyNames, kPolicyNames + kPolicies}; }

Policy parse_policy(std::string_view text) {
  for (int i = 0; i < kPolicies; ++i)
    if (text == kPolicyNames[i] || "autoaugment_" + std::string(text) == kPolicyNames[i]) return Policy(i);
  std::string all;
  for (const char* one : kPolicyNames) all += (all.empty() ? "" : ", ") + std::string(one);
  fail(ErrorKind::usage, "'{}' is not an augmentation policy: {}", text, all);
}

void check(const PolicyParams& params) {
  PLUME_CHECK(params.randaugment_ops >= 1 && params.randaugment_ops <= kMostImageOps,
              "augment: {} operations of RandAugment, expected 1 to {}", params.randaugment_ops,
              kMostImageOps);
  PLUME_CHECK(params.randaugment_magnitude >= 0 && params.randaugment_magnitude < kOtherBins,
              "augment: magnitude {} of RandAugment, expected 0 to {}", params.randaugment_magnitude,
              kOtherBins - 1);
}

bool is_signed(ImageOpName op) { return op >= Op::shear_x && op <= Op::sharpness; }

double autoaugment_magnitude(ImageOpName op, int bin, int bins, int height, int width) {
  const auto up_to = [&](double end) { return double(linspace(0, float(end), bin, bins)); };
  switch (op) {
    case Op::shear_x:
    case Op::shear_y:
      return up_to(0.3);
    case Op::translate_x:
      return up_to(150.0 / 331.0 * width);
    case Op::translate_y:
      return up_to(150.0 / 331.0 * height);
    case Op::rotate:
      return up_to(30);
    case Op::brightness:
    case Op::color:
    case Op::contrast:
    case Op::sharpness:
      return up_to(0.9);
    case Op::posterize:
      return posterize_bits(bin, bins, 4);
    case Op::solarize:
      return double(linspace(255, 0, bin, bins));
    default:
      return 0;
  }
}

double trivialaugment_magnitude(ImageOpName op, int bin, int bins) {
  const auto up_to = [&](double end) { return double(linspace(0, float(end), bin, bins)); };
  switch (op) {
    case Op::translate_x:
    case Op::translate_y:
      return up_to(32);
    case Op::rotate:
      return up_to(135);
    case Op::posterize:
      return posterize_bits(bin, bins, 6);
    case Op::solarize:
      return double(linspace(255, 0, bin, bins));
    default:
      return is_signed(op) ? up_to(0.99) : 0;
  }
}

std::span<const SubPolicy> autoaugment_table(Policy policy) {
  if (policy == Policy::autoaugment_cifar10) return kCifar10;
  if (policy == Policy::autoaugment_imagenet) return kImagenet;
  return {};
}

double Draws::uniform() { return double(uniform01(bits())); }
// A bound of a few thousand makes the bias of about bound / 2^32 irrelevant.
int Draws::below(int bound) { return int(uint64_t(bits()) * uint64_t(bound) >> 32); }

std::vector<PolicyOp> draw_policy(const PolicyParams& params, Draws& draws, int height, int width) {
  constexpr int kOps = kImageOpNames - 1;  // all but invert, which only AutoAugment uses
  std::vector<PolicyOp> ops;
  if (const auto table = autoaugment_table(params.policy); !table.empty()) {
    const SubPolicy& row = table[size_t(draws.below(int(table.size())))];
    for (const SubPolicy::Step& step : row.steps) {
      const bool applied = draws.uniform() <= step.probability, negative = draws.coin();
      const double magnitude = autoaugment_magnitude(step.op, step.bin, kAutoAugmentBins, height, width);
      if (applied) ops.push_back({step.op, signed_magnitude(step.op, magnitude, negative)});
    }
  } else if (params.policy == Policy::randaugment) {
    for (int64_t i = 0; i < params.randaugment_ops; ++i) {
      const auto op = Op(draws.below(kOps));
      const double magnitude =
          autoaugment_magnitude(op, int(params.randaugment_magnitude), kOtherBins, height, width);
      ops.push_back({op, signed_magnitude(op, magnitude, draws.coin())});
    }
  } else if (params.policy == Policy::trivialaugment) {
    const auto op = Op(draws.below(kOps));
    const double magnitude = trivialaugment_magnitude(op, draws.below(kOtherBins), kOtherBins);
    ops.push_back({op, signed_magnitude(op, magnitude, draws.coin())});
  }
  return ops;
}

}  // namespace plume::data
