#include "tools/training/run_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "tools/training/metrics.h"

namespace plume::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpoints = "checkpoints";
constexpr std::string_view kPrefix = "step-", kSuffix = ".safetensors";

std::vector<std::string> own_files() {
  std::vector<std::string> names = {"config.json",      "environment.json", "last.safetensors",
                                    "best.safetensors", "result.json",      "console.log"};
  for (const char* name : MetricsFiles::kNames) names.emplace_back(name);
  return names;
}

// The step of "step-00001234.safetensors"; -1 for any other name.
int64_t step_of(const std::string& name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return -1;
  const char* const begin = name.data() + kPrefix.size();
  const char* const end = name.data() + name.size() - kSuffix.size();
  int64_t step = -1;
  const auto [stopped, error] = std::from_chars(begin, end, step);
  return error == std::errc() && stopped == end && begin < end ? step : -1;
}

}  // namespace

std::string RunFolder::file(const std::string& name) const { return (fs::path(path_) / name).string(); }

void RunFolder::remove(const std::string& name) const {
  std::error_code error;
  fs::remove(file(name), error);
}

std::string RunFolder::checkpoint(int64_t step) const {
  char name[64];
  std::snprintf(name, sizeof name, "step-%08lld.safetensors", (long long)step);
  return (fs::path(path_) / kCheckpoints / name).string();
}

std::vector<std::pair<int64_t, std::string>> RunFolder::checkpoints() const {
  std::vector<std::pair<int64_t, std::string>> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(path_) / kCheckpoints, error))
    if (const int64_t step = step_of(entry.path().filename().string()); step >= 0)
      found.emplace_back(step, entry.path().string());
  std::sort(found.rbegin(), found.rend());
  return found;
}

void RunFolder::check_free(bool replace) const {
  PLUME_CHECK(!path_.empty(), "--out: the run folder is not given");
  std::error_code error;
  PLUME_CHECK(!fs::exists(path_, error) || fs::is_directory(path_, error), "--out {}: is not a folder",
              path_);
  if (replace) return;
  std::vector<std::string> names = own_files();
  names.emplace_back(kCheckpoints);
  for (const std::string& name : names)
    PLUME_CHECK(!fs::exists(file(name), error),
                "--out {}: holds a run already ({}); give --resume or --overwrite", path_, name);
}

void RunFolder::make() const {
  std::error_code error;
  fs::create_directories(fs::path(path_) / kCheckpoints, error);
  if (error) fail(ErrorKind::resource, "--out {}: cannot be made: {}", path_, error.message());
  for (const std::string& name : own_files()) fs::remove(file(name), error);
  for (const auto& [step, path] : checkpoints()) fs::remove(path, error);
}

std::string RunFolder::newest_checkpoint(RunDescription& found, std::vector<std::string>& damaged) const {
  for (const auto& [step, path] : checkpoints()) {
    try {
      found = describe_run(path);
      return path;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input) throw;
      damaged.emplace_back(error.what());
    }
  }
  if (damaged.empty()) fail(ErrorKind::bad_input, "{}: holds no checkpoint", file(kCheckpoints));
  fail(ErrorKind::bad_input, "{}", damaged.front());
}

void RunFolder::prune(int64_t step, int64_t keep) const {
  std::error_code error;
  for (const auto& [other, path] : checkpoints())
    if (other <= step && keep-- <= 0) fs::remove(path, error);
  std::vector<fs::path> half_written;
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(path_) / kCheckpoints, error))
    if (entry.path().extension() == ".tmp") half_written.push_back(entry.path());
  for (const fs::path& path : half_written) fs::remove(path, error);
}

}  // namespace plume::tools
