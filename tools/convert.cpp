// convert: weights from safetensors or PyTorch files, under torchvision's or timm's names, to safetensors.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "data/sets/imagenet_labels.h"
#include "engine/files/input_file.h"
#include "engine/serialization/crc64.h"
#include "engine/serialization/double_precision.h"
#include "engine/serialization/known_networks.h"
#include "engine/serialization/safetensors_header.h"
#include "engine/serialization/state_dict.h"
#include "engine/serialization/timm_names.h"
#include "engine/serialization/weights.h"
#include "models/registry.h"
#include "tools/cli/main.h"
#include "tools/cli/model.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/checkpoint.h"

namespace {

using namespace plume;
namespace fs = std::filesystem;

constexpr const char* kTool = "plume convert 0.1.0";

struct Request {
  std::string in, out, model, stem = "imagenet", timm;
  bool half = false, new_head = false;
  int64_t classes = 1000, seed = 0;
};

// What happened to the tensors, line by line; a fault is printed too, and then stops the conversion.
class Report {
 public:
  void line(const char* what, const std::string& text) { fmt::print("{:<10} {}\n", what, text); }
  // Of each kind the first few are printed.
  void some(const char* what, const std::string& text) {
    const size_t count = ++printed_[what];
    if (count <= kMostLines)
      line(what, text);
    else if (count == kMostLines + 1)
      line(what, "...");
  }
  void fault(const char* what, const std::string& text) {
    some(what, text);
    ++faults_;
  }
  size_t faults() const { return faults_; }

 private:
  static constexpr size_t kMostLines = 5;
  std::map<std::string, size_t> printed_;
  size_t faults_ = 0;
};

void check_paths(const Request& r) {
  PLUME_CHECK(!r.in.empty() && !r.out.empty(), "give IN and OUT, the file to read and the file to write");
  std::error_code ignored;
  const bool same = fs::equivalent(r.in, r.out, ignored) ||
                    fs::weakly_canonical(r.in, ignored) == fs::weakly_canonical(r.out, ignored);
  PLUME_CHECK(!same, "{}: OUT is the input file", r.out);
  PLUME_CHECK(!fs::is_directory(r.out, ignored), "{}: OUT is a folder", r.out);
}

std::string checksum_of(const std::string& path) {
  const InputFile file(path);
  Crc64 crc;
  std::vector<char> buffer(std::min<uint64_t>(uint64_t{1} << 20, file.size()));
  for (uint64_t offset = 0; offset < file.size();) {
    const uint64_t part = std::min<uint64_t>(buffer.size(), file.size() - offset);
    file.read(offset, buffer.data(), part);
    crc.add(buffer.data(), part);
    offset += part;
  }
  return fmt::format("{:016x}", crc.value());
}

std::string printable(std::string text) {
  for (size_t bad; (bad = find_invalid_utf8(text)) != std::string_view::npos;) text[bad] = '?';
  return text;
}

// Read now: the model may go.
WeightTensor from_model(const TensorSource& source) {
  WeightTensor tensor{source.name, &format_dtype(source.dtype), {}, {}};
  for (const int64_t extent : source.shape) tensor.shape.push_back(uint64_t(extent));
  tensor.read = [value = source.fetch()] { return value; };
  return tensor;
}

void rename_from_timm(const Request& r, Weights& weights, Report& report) {
  if (r.timm.empty()) {
    if (has_timm_names(weights.tensors))
      fail(ErrorKind::bad_input,
           "{}: has timm's names, which models of different definitions share: say which model it is with "
           "--timm "
           "mobilenetv3_small_100 or --timm efficientnetv2_s (those with tf_ or _rw_ are not supported)",
           weights.path);
    return;
  }
  TimmConversion converted = from_timm(weights.path, weights.tensors, r.timm);
  PLUME_CHECK(r.model.empty() || r.model == converted.model, "--model {}: timm's {} is {}", r.model, r.timm,
              converted.model);
  for (const TimmConversion::Change& c : converted.changes) {
    const WeightTensor* now = find_tensor(converted.tensors, c.to);
    report.line("renamed", fmt::format("{} -> {}", in_quotes(c.from), in_quotes(c.to)));
    if (c.how.starts_with("reshaped"))
      report.line("reshaped", fmt::format("{} {} {}", in_quotes(c.to), now->describe(), c.how.substr(9)));
    else if (!c.how.empty())
      report.line("changed", fmt::format("{}: {}", in_quotes(c.to), c.how));
  }
  weights.tensors = std::move(converted.tensors);
  weights.groups = {{"", weights.tensors}};
}

// Finds what the model wants, compares, and fills in what may be: a new head, and counters of batches.
Weights fit_to_model(const Request& r, const Weights& read, FitOptions options, Report& report) {
  const auto make = [&](int64_t classes) {
    return make_model(r.model,
                      {.num_classes = int(classes), .stem = parse_stem(r.stem), .seed = uint64_t(r.seed)});
  };
  int64_t classes = r.classes;
  std::unique_ptr<Module> model = make(classes);
  const std::string head = options.head = tools::head_prefix(*model);
  FittedWeights fitted = fit_weights(read, state_sources({{"", model->state()}}), options);
  if (!fitted.note.empty()) report.line("chose", fitted.note);
  Weights& weights = fitted.weights;
  if (r.new_head) {
    std::erase_if(weights.tensors, [&](const WeightTensor& t) {
      const bool drop = t.name.starts_with(head);
      if (drop)
        report.line("dropped", fmt::format("{} {} (of the old head)", in_quotes(t.name), t.describe()));
      return drop;
    });
  } else if (const WeightTensor* last = find_tensor(weights.tensors, model->parameters().back().name)) {
    if (tools::count_classes(weights, *last) != classes)
      model = make(classes = tools::count_classes(weights, *last));
  }

  std::set<std::string> expected;
  const std::vector<TensorSource> wanted = state_sources({{"", model->state()}});
  for (const TensorSource& source : wanted) {
    expected.insert(source.name);
    const std::string text =
        message("{} {} {}", in_quotes(source.name), format_dtype(source.dtype).name, source.shape);
    const WeightTensor* found = find_tensor(weights.tensors, source.name);
    if (found != nullptr) {
      if (!fits_shape(*found, source.shape) || !fits_dtype(*found, source.dtype))
        report.fault("mismatch", fmt::format("{}, the file has {}", text, found->describe()));
    } else if (r.new_head && source.name.starts_with(head)) {
      report.line("new", fmt::format("{} (initialised with seed {})", text, r.seed));
      weights.tensors.push_back(from_model(source));
    } else if (is_batch_counter(source.name)) {
      report.some("no counter", text + " (0 is written)");
      weights.tensors.push_back(from_model(source));
    } else {
      report.fault("missing", text);
    }
  }
  for (const WeightTensor& t : weights.tensors)
    if (!expected.contains(t.name))
      report.fault("unexpected", fmt::format("{} {}", in_quotes(t.name), t.describe()));
  if (report.faults() > 0) {
    std::fflush(stdout);
    const std::string hint = difference_of_networks(weights.tensors, wanted);
    fail(ErrorKind::bad_input,
         "{}: does not fit {}: {} tensors are missing, unexpected or of another shape{}{}", r.in, r.model,
         report.faults(), hint.empty() ? "" : "; ", hint);
  }
  return std::move(fitted.weights);
}

Tensor to_half(const Tensor& wide, const std::string& path, const std::string& name) {
  Tensor half = Tensor::empty(wide.shape(), DType::f16, Device::cpu, "file");
  f16* out = half.data<f16>();
  dispatch_floating(wide.dtype(), [&](auto zero) {
    const auto* in = wide.data<decltype(zero)>();
    for (int64_t i = 0; i < wide.size(); ++i) {
      out[i] = f16(float(in[i]));
      if (std::isfinite(float(in[i])) && !std::isfinite(float(out[i])))
        fail(ErrorKind::numeric, "{}: tensor {}: {} is beyond the range of f16", path, in_quotes(name),
             float(in[i]));
    }
  });
  return half;
}

std::vector<TensorSource> to_sources(const Request& r, const Weights& weights) {
  std::vector<TensorSource> sources;
  for (const WeightTensor& t : weights.tensors) {
    const std::optional<DType> dtype = loaded_dtype(*t.type);
    if (!dtype)
      fail(ErrorKind::bad_input, "{}: UnsupportedDtype: tensor {} is {}", weights.path, in_quotes(t.name),
           t.describe());
    TensorSource source{t.name, *dtype, {}, {}};
    const std::vector<int64_t> extents(t.shape.begin(), t.shape.end());
    try {
      source.shape = Shape(extents.data(), int(extents.size()));
    } catch (const Error&) {
      fail(ErrorKind::bad_input, "{}: UnsupportedShape: tensor {} is {}", weights.path, in_quotes(t.name),
           t.describe());
    }
    source.fetch = t.read;
    if (r.half && is_floating(source.dtype) && source.dtype != DType::f16) {
      source.dtype = DType::f16;
      source.fetch = [read = t.read, path = weights.path, name = t.name] {
        return to_half(read(), path, name);
      };
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

std::map<std::string, std::string> provenance(const Request& r, const Weights& weights) {
  std::map<std::string, std::string> m;
  m["format"] = "pt";
  m["plume.tool"] = kTool;
  m["plume.source"] = printable(fs::path(r.in).filename().string());
  m["plume.source.format"] = name(weights.format);
  m["plume.source.bytes"] = std::to_string(weights.size);
  m["plume.source.crc64"] = checksum_of(r.in);
  if (!r.model.empty()) m["plume.model"] = r.model;
  if (!r.timm.empty()) m["plume.source.timm"] = printable(r.timm);
  if (r.new_head) m["plume.head"] = fmt::format("new: {} classes, seed {}", r.classes, r.seed);
  if (r.half) m["plume.half"] = "true";
  return m;
}

// What weights say about images and classes goes with them; a new head knows no classes and no data set. For
// those that say nothing it is known where they are torchvision's own.
std::map<std::string, std::string> described(const Request& r, const Weights& read, const Weights& written,
                                             Report& report) {
  if (!read.metadata.contains("plume.format") && !tools::describes_images(read.metadata)) {
    const auto imagenet = uint64_t(data::imagenet_labels().size());
    if (r.model.empty() || !r.timm.empty() || r.new_head) return {};
    const WeightTensor* bias =
        find_tensor(written.tensors, make_model(r.model, {.initialize = false})->parameters().back().name);
    if (bias == nullptr || bias->shape != std::vector<uint64_t>{imagenet}) return {};
  }
  tools::NetworkDescription network = tools::describe_weights(read, r.model);
  if (r.new_head) network.class_names.clear(), network.data.clear();
  report.line("images", to_line(network));
  return tools::to_metadata(network);
}

int run(tools::Flags& flags) {
  Request r;
  flags.text("IN", r.in, "safetensors or .pth (zip or legacy form) file, torchvision's or timm's names");
  flags.text("OUT", r.out, "safetensors file to write");
  flags.choice("--model", r.model, model_names(), "network to compare with: every tensor must fit");
  flags.choice("--stem", r.stem, {"imagenet", "cifar"}, "its first layers");
  flags.text("--timm", r.timm, "timm's model: resnet18, mobilenetv3_small_100 or efficientnetv2_s");
  tools::WeightsFlags weights_flags(flags);
  flags.on("--half", r.half, "write floating-point tensors as f16");
  flags.whole("--classes", r.classes, 1, 1'000'000, "replace the last layer by a new one, with --model");
  flags.whole("--seed", r.seed, 0, INT64_MAX, "of the new layer's values");
  flags.parse();
  r.new_head = flags.given("--classes");
  PLUME_CHECK(!r.new_head || !r.model.empty(), "--classes: give --model too, whose last layer it is");
  PLUME_CHECK(r.new_head || !flags.given("--seed"), "--seed: is for the new layer of --classes");
  PLUME_CHECK(!flags.given("--stem") || !r.model.empty(), "--stem: give --model too");
  check_paths(r);

  Weights weights = open_weights(r.in);
  Report report;
  size_t tensors = 0;
  for (const WeightGroup& g : weights.groups) tensors += g.tensors.size();
  report.line("read",
              fmt::format("{}: {}, {} tensors, {} bytes", r.in, name(weights.format), tensors, weights.size));
  const FitOptions options = weights_flags.options();
  const Weights read = weights;
  if (!r.timm.empty() || r.model.empty()) {
    FitOptions of_timm = options;
    of_timm.head = "classifier.";
    const std::vector<TensorSource> wanted =
        r.timm.empty() ? std::vector<TensorSource>{} : timm_sources(r.timm);
    FittedWeights chosen =
        wanted.empty() ? choose_weights(weights, options) : fit_weights(weights, wanted, of_timm);
    if (!chosen.note.empty()) report.line("chose", chosen.note);
    weights = std::move(chosen.weights);
  }
  rename_from_timm(r, weights, report);
  if (!r.model.empty()) weights = fit_to_model(r, weights, r.timm.empty() ? options : FitOptions{}, report);
  std::map<std::string, std::string> metadata = provenance(r, weights);
  metadata.merge(described(r, read, weights, report));
  write_safetensors(r.out, to_sources(r, weights), metadata);
  report.line("wrote",
              fmt::format("{}: {} tensors, {} bytes", r.out, weights.tensors.size(), fs::file_size(r.out)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Converts weights to safetensors.", run);
}
