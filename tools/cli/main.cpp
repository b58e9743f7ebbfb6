#include "tools/cli/main.h"

#include <charconv>
#include <chrono>
#include <cmath>
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

// An abbreviation is nearer to its flag than any other word of the same length.
std::string nearest_flag(const std::string& flag, const std::vector<std::string>& known) {
  for (const std::string& k : known)
    if (k.starts_with(flag)) return k;
  return nearest(flag, known);
}

// Thrown for --help, which is no error.
struct HelpShown {};

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

int64_t parse_whole(const std::string& flag, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PLUME_CHECK(error == std::errc() && end == text.data() + text.size() && value >= least && value <= most,
              "{}: '{}' is not a whole number from {} to {}", flag, text, least, most);
  return value;
}

double parse_number(const std::string& flag, const std::string& text, double least, double most) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PLUME_CHECK(error == std::errc() && end == text.data() + text.size() && std::isfinite(value) &&
                  value >= least && value <= most,
              "{}: '{}' is not a number from {} to {}", flag, text, least, most);
  return value;
}

Flags::Flags(int argc, char** argv, const std::string& description)
    : argc_(argc),
      argv_(argv),
      tool_(argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "plume"),
      app_(description, tool_) {
  app_.get_formatter()->column_width(36);
}

CLI::Option* Flags::text(const std::string& name, std::string& value, const std::string& help) {
  return app_.add_option(name, value, help)->type_name("TEXT")->capture_default_str();
}

CLI::Option* Flags::choice(const std::string& name, std::string& value,
                           const std::vector<std::string>& allowed, const std::string& help) {
  std::string names;
  for (const std::string& a : allowed) names += (names.empty() ? "" : "|") + a;
  const auto assign = [&value, name, allowed, names](const std::string& word) {
    for (const std::string& a : allowed)
      if (word == a) return void(value = word);
    fail(ErrorKind::usage, "{}: '{}' is not one of {}; nearest: '{}'", name, word, names,
         nearest(word, allowed));
  };
  return app_.add_option_function<std::string>(name, assign, help)->type_name(names)->default_str(value);
}

CLI::Option* Flags::whole(const std::string& name, int64_t& value, int64_t least, int64_t most,
                          const std::string& help) {
  return app_
      .add_option_function<std::string>(
          name, [=, &value](const std::string& word) { value = parse_whole(name, word, least, most); }, help)
      ->type_name("INT")
      ->default_str(std::to_string(value));
}

CLI::Option* Flags::number(const std::string& name, double& value, double least, double most,
                           const std::string& help) {
  return app_
      .add_option_function<std::string>(
          name, [=, &value](const std::string& word) { value = parse_number(name, word, least, most); }, help)
      ->type_name("NUMBER")
      ->default_str(message("{}", value));
}

CLI::Option* Flags::on(const std::string& name, bool& value, const std::string& help) {
  return app_.add_flag(name, value, help);
}

CLI::Option* Flags::list(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  repeatable_.insert(name);
  return app_.add_option(name, values, help)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Flags::refuse_unknown_and_repeated() const {
  std::vector<std::string> known = {"--help"};
  for (const CLI::Option* option : app_.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  std::set<std::string> seen;
  for (int i = 1; i < argc_; ++i) {
    const std::string word = argv_[i], flag = word.substr(0, word.find('='));
    if (!flag.starts_with("--") || flag.size() == 2) continue;
    PLUME_CHECK(std::find(known.begin(), known.end(), flag) != known.end(),
                "there is no flag {}; nearest: {}", flag, nearest_flag(flag, known));
    PLUME_CHECK(seen.insert(flag).second || repeatable_.contains(flag), "{} is given twice", flag);
  }
}

void Flags::parse() {
  refuse_unknown_and_repeated();
  try {
    app_.parse(argc_, argv_);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app_.help().c_str(), stdout);
    throw HelpShown{};
  } catch (const CLI::ParseError& error) {
    fail(ErrorKind::usage, "{} (--help lists the flags)", one_line(error.what()));
  }
}

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
