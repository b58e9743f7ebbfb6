#include "tools/cli/main.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <ios>
#include <new>
#include <string_view>
#include <system_error>
#include <thread>

#include "engine/core/cpu_count.h"
#include "engine/core/text.h"
#include "engine/core/thread_pool.h"
#include "engine/core/variants.h"
#include "engine/distributed/communicator.h"
#include "engine/distributed/launch.h"
#include "tools/cli/json.h"

namespace plume::tools {
namespace {

std::string& tool_name() {
  static std::string name = "plume";
  return name;
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

// What the system says of names and of what lies under them is the input's fault; of all else it has too
// little.
ErrorKind kind_of(const std::error_code& code) {
  for (const std::errc of_input :
       {std::errc::no_such_file_or_directory, std::errc::not_a_directory, std::errc::is_a_directory,
        std::errc::filename_too_long, std::errc::too_many_symbolic_link_levels, std::errc::file_exists,
        std::errc::permission_denied, std::errc::illegal_byte_sequence, std::errc::invalid_argument})
    if (code == of_input) return ErrorKind::bad_input;
  return ErrorKind::resource;
}

int give_up_internally(const std::string& what) {
  return give_up(message("internal error, a fault of plume: {}", what), ErrorKind::internal);
}

// Turns the exception under way into last words and an exit code.
int give_up_on_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return error.kind() == ErrorKind::internal ? give_up_internally(error.what())
                                               : give_up(error.what(), error.kind());
  } catch (const std::bad_alloc&) {
    return give_up("out of memory", ErrorKind::resource);
  } catch (const std::length_error& error) {
    return give_up(message("out of memory: a size is beyond all memory ({})", error.what()),
                   ErrorKind::resource);
  } catch (const std::system_error& error) {
    return give_up(error.what(), kind_of(error.code()));
  } catch (const Json::exception& error) {
    return give_up(message("JSON of another form than expected: {}", error.what()), ErrorKind::bad_input);
  } catch (const std::exception& error) {
    return give_up_internally(error.what());
  } catch (...) {
    return give_up_internally("an exception of no known kind");
  }
}

// For what no one catches, on whichever thread.
[[noreturn]] void on_terminate() {
  const int code = std::current_exception() ? give_up_on_exception()
                                            : give_up_internally("terminated without an exception");
  std::fflush(stdout);
  _exit(code);
}

}  // namespace

std::string one_line(const std::string& text) {
  constexpr size_t kLongest = 8192;
  std::string line = text.substr(0, kLongest);
  for (char& c : line)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  return printable(line) + (text.size() > kLongest ? "..." : "");
}

DeviceFlags::DeviceFlags(Flags& flags) : flags_(flags) {
  flags.text("--device", device_, "cpu, cuda or simt (default: cuda where a GPU answers, else cpu)");
  flags.list("--variant", variants_,
             "slot=name: force a variant of a kernel; first or last: of all; may be repeated");
  flags.whole("--threads", threads_, 0, 4096,
              "threads of the cpu device (0: the cores and CPU time that this process may use)");
}

Device DeviceFlags::open(const std::string& otherwise) {
  if (threads_ > 0) {
    set_compute_threads(int(threads_));
    if (const int usable = usable_cores(); threads_ > usable)
      log_line(
          message("--threads {}: this process may use {} cores at once; more threads make nothing faster",
                  threads_, usable));
  }
  Device device{};
  if (flags_.given("--device")) {
    device = parse_device(device_);
    if (device == Device::cuda && !cuda_available())
      fail(ErrorKind::resource, "--device cuda: {}", cuda_unavailable_reason());
  } else if (!otherwise.empty()) {
    device = parse_device(otherwise);
  } else {
    device = default_device();
    log_line(device == Device::cuda ? message("uses cuda: {}", backend(device).describe())
                                    : message("uses cpu: {}", cuda_unavailable_reason()));
  }
  backend(device);
  choose_variants_of_environment();
  for (const std::string& v : variants_) choose_variants(v);
  return device;
}

void log_line(const std::string& line) {
  if (rank_or_zero() > 0) return;
  std::fprintf(stderr, "%s: %s\n", tool_name().c_str(), one_line(line).c_str());
}

int run_tool(int argc, char** argv, const std::string& description, const std::function<int(Flags&)>& body) {
  std::set_terminate(on_terminate);
  try {
    Flags flags(argc, argv, description);
    tool_name() = flags.tool();
    return body(flags);
  } catch (const HelpShown&) {
    return 0;
  } catch (...) {
    return give_up_on_exception();
  }
}

}  // namespace plume::tools
