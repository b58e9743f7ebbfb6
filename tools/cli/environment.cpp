#include "tools/cli/environment.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <thread>

#if defined(PLUME_HAVE_ONEDNN)
#include <dnnl.h>
#endif

#include "data/images/image.h"
#include "engine/core/error.h"
#include "engine/core/thread_pool.h"
#include "tools/cli/json.h"
#include "tools/cli/plume_revision.h"

namespace plume::tools {
namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

std::string git_revision() { return kGitRevision; }

Json describe_environment(Device device) {
  Json json;
  json["started"] = utc_now();
  json["git_revision"] = git_revision();
  json["compiler"] = __VERSION__;
#if defined(PLUME_HAVE_ONEDNN)
  const dnnl_version_t* onednn = dnnl_version();
  json["onednn"] = message("{}.{}.{}", onednn->major, onednn->minor, onednn->patch);
#endif
  json["image_decoders"] = data::image_decoders();
  json["device"] = name(device);
  json["device_name"] = backend(device).describe();
  if (backend(device).libraries) json["device_libraries"] = backend(device).libraries();
  json["cpu"] = backend(Device::cpu).describe();
  json["cpu_threads"] = compute_threads();
  json["cores"] = std::thread::hardware_concurrency();
  utsname system{};
  if (uname(&system) == 0) {
    json["system"] = message("{} {} {}", std::string(system.sysname), std::string(system.release),
                             std::string(system.machine));
    json["host"] = system.nodename;
  }
  return json;
}

}  // namespace plume::tools
