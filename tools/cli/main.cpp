#include "tools/cli/main.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string_view>
#include <thread>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "engine/core/kernel_slot.h"
#include "engine/core/text.h"
#include "engine/distributed/communicator.h"
#include "engine/distributed/launch.h"

namespace plume::tools {
namespace {

std::string& tool_name() {
  static std::string name = "plume";
  return name;
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

int rank_or_zero() {
  try {
    return launch().rank;
  } catch (const Error&) {
    return 0;
  }
}

// The last words of a tool: one line, and the other ranks are ended. Most errors meet all ranks at once: the
// first rank speaks for them, and the launcher ends the others while they wait for their turn.
int give_up(const std::string& text, ErrorKind kind) {
  const int rank = rank_or_zero();
  if (rank > 0) {
    std::signal(SIGTERM, SIG_DFL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  }
  const std::string place = rank > 0 ? message(" (rank {})", rank) : "";
  std::fprintf(stderr, "%s: %s%s\n", tool_name().c_str(), one_line(text).c_str(), place.c_str());
  Communicator::abort_world(int(kind));
  return int(kind);
}

}  // namespace

DeviceFlags::DeviceFlags(Flags& flags) : flags_(flags) {
  flags.text("--device", device_, "cpu, cuda or simt (default: cuda where a GPU answers, else cpu)");
  flags.list("--variant", variants_, "slot=name: force a variant of a kernel; may be repeated");
  flags.whole("--threads", threads_, 0, 4096, "threads of the cpu and simt devices (0: all cores)");
}

Device DeviceFlags::open() {
#if defined(_OPENMP)
  if (threads_ > 0) omp_set_num_threads(int(threads_));
#endif
  Device device{};
  if (flags_.given("--device")) {
    device = parse_device(device_);
    if (device == Device::cuda && !cuda_available())
      fail(ErrorKind::resource, "--device cuda: {}", cuda_unavailable_reason());
  } else {
    device = default_device();
    log_line(device == Device::cuda ? message("uses cuda: {}", backend(device).describe())
                                    : message("uses cpu: {}", cuda_unavailable_reason()));
  }
  backend(device);
  if (const char* forced = std::getenv("PLUME_VARIANTS")) force_variants(forced);
  for (const std::string& v : variants_) force_variants(v);
  return device;
}

void log_line(const std::string& line) {
  if (rank_or_zero() > 0) return;
  std::fprintf(stderr, "%s: %s\n", tool_name().c_str(), one_line(line).c_str());
}

int run_tool(int argc, char** argv, const std::string& description, const std::function<int(Flags&)>& body) {
  try {
    Flags flags(argc, argv, description);
    tool_name() = flags.tool();
    return body(flags);
  } catch (const HelpShown&) {
    return 0;
  } catch (const Error& error) {
    return give_up(error.what(), error.kind());
  } catch (const std::bad_alloc&) {
    return give_up("out of memory", ErrorKind::resource);
  } catch (const std::filesystem::filesystem_error& error) {
    return give_up(error.what(), ErrorKind::resource);
  } catch (const std::exception& error) {
    return give_up(error.what(), ErrorKind::internal);
  }
}

}  // namespace plume::tools
