#include "engine/serialization/timm_names.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "engine/serialization/state_dict.h"
#include "engine/serialization/weight_faults.h"

namespace plume {
namespace {

constexpr double kTimmEps = 1e-5, kTorchvisionEps = 1e-3;

using Extents = std::vector<uint64_t>;

// One tensor of timm's model.
struct Place {
  std::string to;
  Extents shape;       // 0: any extent
  bool gamma = false;  // of a batch norm
  bool flat = false;   // [K, C, 1, 1] becomes [K, C]
  bool optional = false;
};
using Places = std::map<std::string, Place>;

class Definition {
 public:
  Places places;

  void conv(const std::string& from, const std::string& to, uint64_t in, uint64_t out, uint64_t kernel,
            bool bias = false) {
    places[from + ".weight"] = {.to = to + ".weight", .shape = {out, in, kernel, kernel}};
    if (bias) places[from + ".bias"] = {.to = to + ".bias", .shape = {out}};
  }
  void norm(const std::string& from, const std::string& to, uint64_t channels) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
      places[from + part] = {.to = to + part, .shape = {channels}, .gamma = part == std::string(".weight")};
    places[from + ".num_batches_tracked"] = {
        .to = to + ".num_batches_tracked", .shape = {}, .optional = true};
  }
  void squeeze_excitation(const std::string& from, const std::string& to, uint64_t channels,
                          uint64_t squeezed) {
    conv(from + ".conv_reduce", to + ".fc1", channels, squeezed, 1, true);
    conv(from + ".conv_expand", to + ".fc2", squeezed, channels, 1, true);
  }
  void classifier(const std::string& to, uint64_t features) {
    places["classifier.weight"] = {.to = to + ".weight", .shape = {0, features}, .optional = true};
    places["classifier.bias"] = {.to = to + ".bias", .shape = {0}, .optional = true};
  }
  // `to`: the sequence of convolutions with their norms, the gate among them.
  void inverted_residual(const std::string& from, const std::string& to, uint64_t in, uint64_t wide,
                         uint64_t out, uint64_t kernel, uint64_t squeezed) {
    conv(from + ".conv_pw", to + ".0.0", in, wide, 1);
    norm(from + ".bn1", to + ".0.1", wide);
    conv(from + ".conv_dw", to + ".1.0", 1, wide, kernel);
    norm(from + ".bn2", to + ".1.1", wide);
    if (squeezed > 0) squeeze_excitation(from + ".se", to + ".2", wide, squeezed);
    const std::string last = to + (squeezed > 0 ? ".3" : ".2");
    conv(from + ".conv_pwl", last + ".0", wide, out, 1);
    norm(from + ".bn3", last + ".1", out);
  }
};

std::string indexed(const std::string& name, size_t i) { return name + "." + std::to_string(i); }

Places mobilenet_v3_small() {
  struct Row {
    size_t stage, index;
    uint64_t in, wide, out, kernel, squeezed;
  };
  constexpr Row kRows[] = {{1, 0, 16, 72, 24, 3, 0},    {1, 1, 24, 88, 24, 3, 0},
                           {2, 0, 24, 96, 40, 5, 24},   {2, 1, 40, 240, 40, 5, 64},
                           {2, 2, 40, 240, 40, 5, 64},  {3, 0, 40, 120, 48, 5, 32},
                           {3, 1, 48, 144, 48, 5, 40},  {4, 0, 48, 288, 96, 5, 72},
                           {4, 1, 96, 576, 96, 5, 144}, {4, 2, 96, 576, 96, 5, 144}};
  Definition d;
  d.conv("conv_stem", "features.0.0", 3, 16, 3);
  d.norm("bn1", "features.0.1", 16);
  // The first block expands nothing.
  d.conv("blocks.0.0.conv_dw", "features.1.block.0.0", 1, 16, 3);
  d.norm("blocks.0.0.bn1", "features.1.block.0.1", 16);
  d.squeeze_excitation("blocks.0.0.se", "features.1.block.1", 16, 8);
  d.conv("blocks.0.0.conv_pw", "features.1.block.2.0", 16, 16, 1);
  d.norm("blocks.0.0.bn2", "features.1.block.2.1", 16);
  size_t feature = 2;
  for (const Row& r : kRows)
    d.inverted_residual(indexed(indexed("blocks", r.stage), r.index),
                        indexed("features", feature++) + ".block", r.in, r.wide, r.out, r.kernel, r.squeezed);
  d.conv("blocks.5.0.conv", "features.12.0", 96, 576, 1);
  d.norm("blocks.5.0.bn1", "features.12.1", 576);
  d.conv("conv_head", "classifier.0", 576, 1024, 1, true);
  d.places["conv_head.weight"].flat = true;
  d.classifier("classifier.3", 1024);
  return d.places;
}

Places efficientnet_v2_s() {
  struct Row {
    size_t blocks;
    uint64_t in, out, expansion;
    bool fused;
  };
  constexpr Row kRows[] = {{2, 24, 24, 1, true},   {4, 24, 48, 4, true},    {4, 48, 64, 4, true},
                           {6, 64, 128, 4, false}, {9, 128, 160, 6, false}, {15, 160, 256, 6, false}};
  Definition d;
  d.conv("conv_stem", "features.0.0", 3, 24, 3);
  d.norm("bn1", "features.0.1", 24);
  for (size_t stage = 0; stage < std::size(kRows); ++stage) {
    const Row& r = kRows[stage];
    for (size_t i = 0; i < r.blocks; ++i) {
      const std::string from = indexed(indexed("blocks", stage), i);
      const std::string to = indexed(indexed("features", stage + 1), i) + ".block";
      const uint64_t in = i == 0 ? r.in : r.out, wide = in * r.expansion;
      if (!r.fused) {
        d.inverted_residual(from, to, in, wide, r.out, 3, in / 4);
      } else if (r.expansion == 1) {
        d.conv(from + ".conv", to + ".0.0", in, r.out, 3);
        d.norm(from + ".bn1", to + ".0.1", r.out);
      } else {
        d.conv(from + ".conv_exp", to + ".0.0", in, wide, 3);
        d.norm(from + ".bn1", to + ".0.1", wide);
        d.conv(from + ".conv_pwl", to + ".1.0", wide, r.out, 1);
        d.norm(from + ".bn2", to + ".1.1", r.out);
      }
    }
  }
  d.conv("conv_head", "features.7.0", 256, 1280, 1);
  d.norm("bn2", "features.7.1", 1280);
  d.classifier("classifier.1", 1280);
  return d.places;
}

bool fits(const Extents& found, const Extents& expected) {
  return std::equal(found.begin(), found.end(), expected.begin(), expected.end(),
                    [](uint64_t a, uint64_t b) { return b == 0 || a == b; });
}

std::string to_text(const Extents& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i > 0 ? ", " : "") + (shape[i] == 0 ? std::string("classes") : std::to_string(shape[i]));
  return text + "]";
}

// gamma * sqrt((var + theirs) / (var + ours)), f32.
Tensor scale_gamma(const Tensor& gamma, const Tensor& variance) {
  Tensor scaled = Tensor::empty(gamma.shape(), DType::f32, Device::cpu, "file");
  float* out = scaled.data<float>();
  dispatch_floating(gamma.dtype(), [&](auto g) {
    dispatch_floating(variance.dtype(), [&](auto v) {
      const auto* gammas = gamma.data<decltype(g)>();
      const auto* variances = variance.data<decltype(v)>();
      for (int64_t i = 0; i < gamma.size(); ++i) {
        const double var = double(float(variances[i]));
        out[i] = float(double(float(gammas[i])) * std::sqrt((var + kTorchvisionEps) / (var + kTimmEps)));
      }
    });
  });
  return scaled;
}

void check(const std::string& path, const std::vector<WeightTensor>& tensors, const Places& places,
           const std::string& model) {
  WeightFaults faults;
  std::set<std::string> present;
  for (const WeightTensor& t : tensors) {
    present.insert(t.name);
    const auto found = places.find(t.name);
    if (found == places.end())
      faults.add("UnexpectedTensor", in_quotes(t.name));
    else if (!fits(t.shape, found->second.shape))
      faults.add("ShapeMismatch", message("{} is {}, expected {}", in_quotes(t.name), t.describe(),
                                          to_text(found->second.shape)));
    else if (found->second.gamma || t.name.ends_with("running_var")) {
      if (!fits_dtype(t, DType::f32))
        faults.add("ShapeMismatch",
                   message("{} is {}, expected floating point", in_quotes(t.name), t.describe()));
    }
  }
  for (const auto& [name, place] : places)
    if (!place.optional && !present.contains(name)) faults.add("MissingTensor", in_quotes(name));
  if (faults.any()) faults.fail(path, "", message("is not timm's {}", model));
}

std::string refusal(const std::string& model) {
  if (model.starts_with("tf_"))
    return "pads as TensorFlow does, torchvision's network does not: the outputs would differ";
  if (model.starts_with("efficientnetv2_rw")) return "has other widths than torchvision's efficientnet_v2_s";
  return "has no counterpart here";
}

struct Counterpart {
  std::string model;  // torchvision's name
  Places places;      // empty: everything is where it belongs
};

Counterpart definition_of(const std::string& model) {
  const std::string plain = model.substr(0, model.find('.'));
  if (plain == "resnet18") return {plain, {}};
  if (plain == "mobilenetv3_small_100") return {"mobilenet_v3_small", mobilenet_v3_small()};
  if (plain == "efficientnetv2_s") return {"efficientnet_v2_s", efficientnet_v2_s()};
  fail(ErrorKind::usage, "timm's {} {}; supported are resnet18, mobilenetv3_small_100 and efficientnetv2_s",
       in_quotes(plain), refusal(plain));
}

}  // namespace

std::vector<TensorSource> timm_sources(const std::string& model) {
  std::vector<TensorSource> sources;
  for (const auto& [name, place] : definition_of(model).places) {
    const std::vector<int64_t> extents(place.shape.begin(), place.shape.end());
    const DType dtype = name.ends_with("num_batches_tracked") ? DType::i64 : DType::f32;
    sources.push_back({name, dtype, Shape(extents.data(), int(extents.size())), {}});
  }
  return sources;
}

bool has_timm_names(const std::vector<WeightTensor>& tensors) {
  return find_tensor(tensors, "conv_stem.weight") != nullptr;
}

TimmConversion from_timm(const std::string& path, const std::vector<WeightTensor>& tensors,
                         const std::string& model) {
  TimmConversion result;
  const Counterpart counterpart = definition_of(model);
  const Places& places = counterpart.places;
  result.model = counterpart.model;
  if (places.empty()) {
    result.tensors = tensors;
    return result;
  }
  const std::string plain = model.substr(0, model.find('.'));
  check(path, tensors, places, plain);
  for (const WeightTensor& t : tensors) {
    const Place& place = places.at(t.name);
    TimmConversion::Change change{t.name, place.to, ""};
    WeightTensor converted = t;
    converted.name = place.to;
    if (place.flat) {
      converted.shape.resize(2);
      change.how = "reshaped from " + to_text(t.shape);
      converted.read = [read = t.read] {
        const Tensor tensor = read();
        return tensor.reshape({tensor.dim(0), tensor.dim(1)});
      };
    }
    if (place.gamma) {
      const std::string norm = t.name.substr(0, t.name.size() - std::string("weight").size());
      const WeightTensor* variance = find_tensor(tensors, norm + "running_var");
      change.how = "scaled for eps 1e-3";
      converted.type = &format_dtype(DType::f32);
      converted.read = [gamma = t.read, var = variance->read] { return scale_gamma(gamma(), var()); };
    }
    result.changes.push_back(std::move(change));
    result.tensors.push_back(std::move(converted));
  }
  return result;
}

}  // namespace plume
