#include "tests/cudnn_plan/expected.h"

#include <algorithm>
#include <sstream>

#include "engine/core/error.h"

namespace plume::test {

const char* name(How how) {
  constexpr const char* kNames[] = {"ready", "compiled", "planned", "sums", "none"};
  return kNames[size_t(how)];
}

const std::vector<Expected>& expectations() {
  static const std::string kAll = "f32 tf32 f16 bf16", kShort = "tf32 f16 bf16";
  static const std::vector<Expected> all{
      // cuDNN's own depthwise kernels do not take every filter.
      {"input gradient depthwise", "(odd)", kAll, How::planned, "CONV_BWD_DATA", 1},
      {"filter gradient depthwise", "(odd)", kAll, How::planned, "CONV_BWD_FILTER", 1},
      {"forward depthwise (odd)", "", kAll, How::planned, "CONV_FORWARD", 1},
      // They are compiled; those with an epilogue are not.
      {"filter gradient depthwise", "", "f32 tf32", How::ready, "CONV_BWD_FILTER", 100},
      {"filter gradient depthwise", "", "f16 bf16", How::none, "", 0},  // in f32
      {"input gradient depthwise", "", kAll, How::compiled, "CONV_BWD_DATA", 0},
      {"forward depthwise scale", "", "bf16", How::none, "", 0},
      {"forward depthwise", "silu", "bf16", How::none, "", 0},
      {"forward depthwise", "hardswish", "bf16", How::none, "", 0},
      {"forward depthwise", "scale", "f32 tf32 f16", How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward depthwise", "silu", "f32 tf32 f16", How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward depthwise", "hardswish", "f32 tf32 f16", How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward depthwise", "shift", kAll, How::ready, "CONV_ADD_BIAS_ACT", 0},
      {"forward depthwise", "", kAll, How::compiled, "CONV_FORWARD", 0},
      // Room for a copy: f32 goes through NCHW.
      {"input gradient", "", kAll, How::ready, "CONV_BWD_DATA", 100},
      {"filter gradient", "(odd)", kAll, How::ready, "CONV_BWD_FILTER", 128},
      {"filter gradient", "", "f32 tf32", How::ready, "CONV_BWD_FILTER", 128},
      // In f32, where channels fill 16 bytes.
      {"filter gradient dense of an image", "", "f16 bf16", How::none, "", 0},
      {"filter gradient", "", "f16 bf16", How::compiled, "GENERIC_CONV_FUSION", 32},
      // What is compiled runs on tensor cores.
      {"forward", "scale", "f32", How::sums, "", 0},
      {"forward", "silu", "f32", How::sums, "", 0},
      {"forward", "hardswish", "f32", How::sums, "", 0},
      {"forward", "scale", kShort, How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward", "silu", kShort, How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward", "hardswish", kShort, How::compiled, "GENERIC_CONV_FUSION", 0},
      {"forward", "shift", kAll, How::ready, "CONV_ADD_BIAS_ACT", 100},
      {"forward", "", kAll, How::ready, "CONV_FORWARD", 100},
  };
  return all;
}

const Expected* expected_of(const Class& one, Arithmetic arithmetic) {
  for (const Expected& e : expectations()) {
    std::istringstream words(e.arithmetics);
    bool meant = false;
    for (std::string word; words >> word;) meant = meant || word == kArithmetics[size_t(arithmetic)];
    if (meant && one.name.starts_with(e.starts) && one.name.find(e.contains) != std::string::npos) return &e;
  }
  return nullptr;
}

std::string difference(const Answer& a, const Expected& e) {
  if (a.missing > 0) return message("{} operands are missing when it runs", a.missing);
  const int here = e.how == How::sums ? a.sums : e.how == How::none ? a.refused : a.whole;
  if (here < a.shapes)
    return message("{} of {} shapes are not {}, but {} whole, {} sums, {} without a plan; such as {}",
                   a.shapes - here, a.shapes, name(e.how), a.whole, a.sums, a.refused, a.example);
  if (e.how == How::ready && a.compiled > 0)
    return message("{} of {} plans are compiled at run time", a.compiled, a.whole);
  if (e.how == How::compiled && a.compiled < a.whole)
    return message("{} of {} plans are ready: expect them to be", a.whole - a.compiled, a.whole);
  for (const std::string& pattern : a.patterns)
    if (pattern != e.pattern) return message("the pattern is {}, not {}", pattern, e.pattern);
  if (a.workspace > e.workspace)
    return message("a plan wants {} MiB of scratch memory, expected at most {}", a.workspace, e.workspace);
  return {};
}

}  // namespace plume::test
