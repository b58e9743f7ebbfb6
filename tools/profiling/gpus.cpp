#include "tools/profiling/gpus.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "engine/core/error.h"
#include "engine/files/read_file.h"
#include "tools/cli/json.h"

namespace plume::tools {
namespace {

constexpr std::pair<const char*, double GpuDescription::*> kNumbers[] = {
    {"sms", &GpuDescription::sms},
    {"clock_hz", &GpuDescription::clock_hz},
    {"dram_bytes_per_second", &GpuDescription::dram_bytes_per_second},
    {"l2_bytes_per_second", &GpuDescription::l2_bytes_per_second},
    {"l2_bytes", &GpuDescription::l2_bytes},
    {"l1_bytes", &GpuDescription::l1_bytes},
    {"shared_bytes_per_sm", &GpuDescription::shared_bytes_per_sm},
    {"registers_per_sm", &GpuDescription::registers_per_sm},
    {"threads_per_sm", &GpuDescription::threads_per_sm},
    {"blocks_per_sm", &GpuDescription::blocks_per_sm},
    {"issue_per_clock", &GpuDescription::issue_per_clock},
    {"tensor_flops_per_clock", &GpuDescription::tensor_flops_per_clock},
    {"f32_flops_per_clock", &GpuDescription::f32_flops_per_clock},
    {"dram_latency", &GpuDescription::dram_latency},
    {"l2_latency", &GpuDescription::l2_latency},
    {"l1_latency", &GpuDescription::l1_latency},
    {"launch_seconds", &GpuDescription::launch_seconds},
    {"graph_node_seconds", &GpuDescription::graph_node_seconds}};

}  // namespace

GpuDescription find_gpu(const std::string& name_or_file) {
  std::string text(gpu_file(name_or_file)), source = "gpus/" + name_or_file + ".json";
  if (text.empty()) {
    PLUME_CHECK(std::filesystem::is_regular_file(name_or_file), "--gpu: '{}' is neither a file nor one of {}",
                name_or_file, gpu_names());
    source = name_or_file;
    constexpr int64_t kMostBytes = 1 << 16;
    const std::vector<uint8_t> bytes =
        read_small_file(name_or_file, kMostBytes, "a GPU's description as JSON");
    text.assign(bytes.begin(), bytes.end());
  }
  const Json json = parse_json(text, source);
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string())
    fail(ErrorKind::bad_input, "{}: expected an object with a 'name'", source);
  GpuDescription gpu;
  gpu.name = json["name"];
  for (const auto& [key, member] : kNumbers) {
    if (!json.contains(key)) fail(ErrorKind::bad_input, "{}: '{}' is missing", source, key);
    const Json& value = json[key];
    if (!value.is_number() || value.get<double>() <= 0)
      fail(ErrorKind::bad_input, "{}: '{}' is {}, expected a number above 0", source, key, brief_text(value));
    gpu.*member = value;
  }
  for (const auto& [key, value] : json.items()) {
    const bool known = key == "name" || key == "sources" ||
                       std::any_of(std::begin(kNumbers), std::end(kNumbers),
                                   [&, &k = key](const auto& number) { return k == number.first; });
    if (!known) fail(ErrorKind::bad_input, "{}: there is no '{}' in the description of a GPU", source, key);
  }
  return gpu;
}

}  // namespace plume::tools
