#include "engine/serialization/checkpoint.h"

#include <charconv>

namespace plume {
namespace {

constexpr int kFormat = 1;
constexpr const char* kFormatKey = "plume.format";
constexpr const char* kStateKey = "plume.state";
constexpr const char* kChecksumKey = "plume.checksum";

}  // namespace

void save_checkpoint(const std::string& path, const std::string& state, const std::vector<StateGroup>& groups,
                     const std::map<std::string, std::string>& about) {
  std::map<std::string, std::string> metadata = {
      {"format", "pt"}, {kFormatKey, std::to_string(kFormat)}, {kStateKey, state}};
  metadata.insert(about.begin(), about.end());
  write_checksummed_safetensors(path, state_sources(groups), metadata, kChecksumKey);
}

CheckpointFile::CheckpointFile(const std::string& path) : file_(path) {
  const auto& metadata = file_.metadata();
  const auto format = metadata.find(kFormatKey);
  if (format == metadata.end())
    fail(ErrorKind::bad_input, "{}: holds tensors, but is not a checkpoint (no {})", path, kFormatKey);
  // Damage first: a flipped bit must not pass for another version.
  verify_checksum(file_, kChecksumKey);
  const std::string& text = format->second;
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1)
    fail(ErrorKind::bad_input, "{}: {} is {}, expected a number from 1 to {}", path, kFormatKey,
         in_quotes(text), kFormat);
  if (number > kFormat)
    fail(ErrorKind::bad_input, "{}: was written by a newer plume: format {}, this one reads up to {}", path,
         number, kFormat);
  const auto state = metadata.find(kStateKey);
  if (state == metadata.end()) fail(ErrorKind::bad_input, "{}: has no {}", path, kStateKey);
  state_ = state->second;
}

void CheckpointFile::load(const std::vector<StateGroup>& groups, const std::string& ignored_prefix) const {
  load_state(file_, groups, ignored_prefix);
}

}  // namespace plume
