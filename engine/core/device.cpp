#include "engine/core/device.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <mutex>

#include "engine/core/error.h"

namespace plume {
namespace {

std::array<DeviceBackend, kDeviceCount>& backends() {
  static std::array<DeviceBackend, kDeviceCount> table{};
  return table;
}

std::string library_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&library_folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// Opens the plug-in beside libplume.so, which registers its backend and kernels if a GPU answers.
// Returns an empty string on success, otherwise the reason.
std::string open_cuda_plugin() {
  // A plug-in that was named may be one that needs no driver.
  const char* override_path = std::getenv("PLUME_CUDA_PLUGIN");
  if (!override_path && !dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
    return "no CUDA driver (libcuda.so.1) on this machine";
  const std::string path = override_path ? override_path : library_folder() + "/libplume_cuda.so";
  void* plugin = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!plugin) return message("the cuda plug-in could not be opened: {}", dlerror());
  using Start = const char* (*)();
  const auto start = reinterpret_cast<Start>(dlsym(plugin, "plume_cuda_start"));
  if (!start) return message("{}: not a plume cuda plug-in", path);
  const char* reason = start();
  return reason ? reason : "";
}

const std::string& cuda_status() {
  static const std::string status = open_cuda_plugin();
  return status;
}

}  // namespace

const char* name(Device device) {
  constexpr const char* kNames[] = {"cpu", "cuda", "simt"};
  return kNames[size_t(device)];
}

Device parse_device(std::string_view text) {
  for (Device d : {Device::cpu, Device::cuda, Device::simt})
    if (text == name(d)) return d;
  fail(ErrorKind::usage, "device '{}' is not one of cpu, cuda, simt", text);
}

void register_backend(Device device, const DeviceBackend& b) { backends()[size_t(device)] = b; }

const DeviceBackend& backend(Device device) {
  if (device == Device::cuda && !cuda_available())
    fail(ErrorKind::resource, "device cuda is not available: {}", cuda_unavailable_reason());
  return backends()[size_t(device)];
}

bool cuda_available() { return cuda_status().empty(); }
std::string cuda_unavailable_reason() { return cuda_status(); }
Device default_device() { return cuda_available() ? Device::cuda : Device::cpu; }

}  // namespace plume
