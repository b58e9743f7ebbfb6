// models: what each network costs, without a data set or weights.
//
// Parameters, multiply-adds by kind of layer and the memory of activations are counted while the network
// runs, so that they are true of this code and not of a table.
#include <cstdio>

#include "engine/autograd/tape.h"
#include "engine/memory/allocator.h"
#include "engine/profiler/cost.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/training/evaluation.h"

namespace {

using namespace plume;
using tools::Json;

// A square input and the number of classes that data sets of this size have.
struct Setting {
  int size;
  int64_t classes;
};
constexpr Setting kUsual[] = {{32, 10}, {64, 200}, {224, 1000}};

// Bytes of activations per image: at most alive at once in evaluation, and kept for the backward pass in
// training.
struct Activations {
  int64_t evaluation, training;
};

Activations measure_activations(Module& model, int size) {
  CachingAllocator& memory = host_allocator();
  const auto pass = [&](int64_t batch) {
    const Variable images(Tensor::zeros({batch, size, size, 3}, DType::f32, Device::cpu, "input"));
    const size_t before = memory.statistics().current;
    memory.reset_peak();
    const Variable logits = model(images);
    const MemoryStatistics after = memory.statistics();
    return Activations{int64_t(after.peak - before), int64_t(after.current - before)};
  };
  Activations result{};
  {
    const NoGrad no_grad;
    model.eval();
    result.evaluation = pass(1).evaluation;
  }
  model.train();
  // Batch norm needs two values per channel, and what is kept per batch is small.
  constexpr int64_t kBatch = 2;
  result.training = pass(kBatch).training / kBatch;
  return result;
}

Json measure(const std::string& name, Stem stem, const Setting& setting) {
  const auto model = make_model(name, {.num_classes = int(setting.classes), .stem = stem});
  CostCounter cost;
  {
    const NoGrad no_grad;
    model->eval();
    (*model)(Variable(Tensor::zeros({1, setting.size, setting.size, 3}, DType::f32, Device::cpu, "input")));
  }
  Json row;
  row["model"] = name;
  row["size"] = setting.size;
  row["classes"] = setting.classes;
  row["parameters"] = model->parameter_count();
  row["size_mb"] = double(tools::state_bytes(*model)) * 1e-6;
  row["macs"] = cost.macs();
  row["flops"] = 2 * cost.macs();
  for (int i = 0; i < kWorkKinds; ++i) row["macs_by_kind"][plume::name(Work(i))] = cost.macs(Work(i));
  const Activations activations = measure_activations(*model, setting.size);
  row["activation_bytes_evaluation"] = activations.evaluation;
  row["activation_bytes_training"] = activations.training;
  return row;
}

void print_header() {
  std::printf("%-19s %4s %7s %11s %7s %14s %14s  %-38s %s\n", "", "", "", "", "", "", "",
              "million MACs by kind", "activations/image");
  std::printf("%-19s %4s %7s %11s %7s %14s %14s  %7s %7s %7s %6s %6s  %8s %8s\n", "model", "size", "classes",
              "parameters", "MB", "MACs", "FLOPs", "dense", "1x1", "depthw.", "linear", "SE", "eval MB",
              "train MB");
}

void print(const Json& row) {
  const auto millions = [&](const char* kind) { return row["macs_by_kind"][kind].get<double>() * 1e-6; };
  std::printf("%-19s %4d %7d %11lld %7.2f %14lld %14lld  %7.2f %7.2f %7.2f %6.2f %6.2f  %8.2f %8.2f\n",
              row["model"].get<std::string>().c_str(), row["size"].get<int>(), row["classes"].get<int>(),
              row["parameters"].get<long long>(), row["size_mb"].get<double>(), row["macs"].get<long long>(),
              row["flops"].get<long long>(), millions("dense"), millions("pointwise"), millions("depthwise"),
              millions("linear"), millions("squeeze_excitation"),
              row["activation_bytes_evaluation"].get<double>() * 1e-6,
              row["activation_bytes_training"].get<double>() * 1e-6);
  std::fflush(stdout);
}

int run(tools::Flags& flags) {
  std::vector<std::string> names, sizes;
  std::string stem = "imagenet";
  int64_t classes = 0;
  bool json = false;
  flags.list("--model", names, "only this network; may be repeated");
  flags.list("--size", sizes, "height and width of the input; may be repeated (default: 32, 64, 224)");
  flags.whole("--classes", classes, 1, 1'000'000, "of the last layer (default: 10, 200 and 1000 by size)");
  flags.choice("--stem", stem, {"imagenet", "cifar"}, "first layers");
  flags.on("--json", json, "print a JSON array");
  flags.parse();

  if (names.empty()) names = model_names();
  std::vector<Setting> settings;
  for (const std::string& text : sizes) {
    const int size = int(tools::parse_whole("--size", text, 32, 4096));
    settings.push_back({size, size <= 32 ? 10 : size <= 64 ? 200 : 1000});
  }
  if (settings.empty()) settings.assign(std::begin(kUsual), std::end(kUsual));
  if (classes > 0)
    for (Setting& s : settings) s.classes = classes;

  Json all = Json::array();
  if (!json) print_header();
  for (const std::string& name : names)
    for (const Setting& setting : settings) {
      all.push_back(measure(name, parse_stem(stem), setting));
      if (!json) print(all.back());
    }
  if (json)
    std::printf("%s\n", tools::to_text(all, 2).c_str());
  else
    std::printf(
        "MB: million bytes of f32 parameters and buffers. MACs: convolutions and linear layers, one image.\n"
        "Activations: f32; alive at once in evaluation, kept for the backward pass in training.\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv,
                                "Lists the networks: parameters, multiply-adds, size, activations.", run);
}
