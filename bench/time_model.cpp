// time_model: times one network at one workload and prints one line of JSON, so that a script can alternate
// it with other frameworks on the same machine.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "models/registry.h"
#include "tools/cli/clock.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/profiling/workload.h"

namespace {

using namespace plume;
using tools::Clock;
using tools::seconds_since;

int run(tools::Flags& flags) {
  tools::DeviceFlags device_flags(flags);
  std::string model = "resnet18", mode = "inference", dtype = "f32", graph = "auto";
  int64_t size = 224, batch = 1;
  double seconds = 3;
  flags.choice("--model", model, model_names(), "network");
  flags.choice("--mode", mode, {"inference", "training"}, "one fused forward pass, or one SGD step");
  flags.choice("--dtype", dtype, {"f32", "bf16", "f16"}, "dtype of activations");
  flags.choice("--graph", graph, {"auto", "on", "off"}, "record the pass once and replay it (auto: on cuda)");
  flags.whole("--size", size, 1, 4096, "image height and width");
  flags.whole("--batch", batch, 1, 65536, "images per pass");
  flags.number("--seconds", seconds, 0.01, 3600,
               "how long to time, after the same again or a second of warm-up");
  flags.parse();
  const Device device = device_flags.open();
  const bool use_graph = graph == "on" || (graph == "auto" && !is_host(device));

  tools::ModelRun model_run(model, {.training = mode == "training", .size = int(size), .batch = batch},
                            tools::parse_dtypes({dtype}).front(), device, {.graph = use_graph});
  const auto pass = [&] {
    const Clock::time_point start = Clock::now();
    model_run.pass();
    model_run.synchronize();
    return seconds_since(start) * 1e3;
  };
  constexpr int kFewestWarmUps = 4, kFewestSamples = 5;
  const Clock::time_point warm_up = Clock::now();
  for (int i = 0; i < kFewestWarmUps || seconds_since(warm_up) < std::min(seconds, 1.0); ++i) pass();
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while (int(times.size()) < kFewestSamples || seconds_since(start) < seconds) times.push_back(pass());
  model_run.check();

  std::sort(times.begin(), times.end());
  const double mean = std::accumulate(times.begin(), times.end(), 0.0) / double(times.size());
  const auto quantile = [&](double q) {
    return times[std::min(times.size() - 1, size_t(q * double(times.size())))];
  };
  const nlohmann::json line{{"framework", "plume"},
                            {"variant", device == Device::cuda ? (use_graph ? "graph" : "eager") : "fused"},
                            {"model", model},
                            {"mode", mode},
                            {"size", size},
                            {"batch", batch},
                            {"device", name(device)},
                            {"dtype", dtype},
                            {"samples", times.size()},
                            {"median_ms", quantile(0.5)},
                            {"mean_ms", mean},
                            {"min_ms", times.front()},
                            {"p95_ms", quantile(0.95)}};
  std::printf("%s\n", tools::to_text(line).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Times one network and prints one line of JSON.", run);
}
