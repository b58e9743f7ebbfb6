// Small training runs, as a user makes them.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>

#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/cli/tensors.h"

namespace plume::test {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;
using json = tools::Json;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// A run of six steps in three epochs, on 32 images, selected on 16.
inline Words small_run(const std::string& out, const Words& more = {}) {
  return joined({"--device",     "cpu", "--data",  "synthetic", "--limit-train", "48", "--validation", "16",
                 "--limit-test", "16",  "--batch", "16",        "--epochs",      "3",  "--lr",         "0.02",
                 "--threads",    "1",   "--out",   out},
                more);
}
// Goes on with it.
inline Words resumed_run(const std::string& out, const Words& more = {}) {
  return joined({"--device", "cpu", "--threads", "1", "--out", out, "--resume"}, more);
}

// The newest of a run's checkpoints; empty when there is none.
inline std::string newest_checkpoint(const std::string& out) {
  std::string newest;
  if (!fs::exists(out + "/checkpoints")) return newest;
  for (const auto& entry : fs::directory_iterator(out + "/checkpoints"))
    if (entry.path().extension() == ".safetensors") newest = std::max(newest, entry.path().string());
  return newest;
}

// Every tensor of a file, weights and optimiser, bit for bit.
inline void expect_same_tensors(const std::string& a, const std::string& b) {
  const tools::TensorMap left = tools::read_tensors(a), right = tools::read_tensors(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, tensor] : left) {
    const Tensor& other = tools::find_tensor(right, name, b);
    ASSERT_EQ(tensor.bytes(), other.bytes()) << name;
    EXPECT_EQ(std::memcmp(tensor.raw(), other.raw(), tensor.bytes()), 0) << name;
  }
}

// Of two run folders: the newest checkpoints, and the weights that are kept.
inline void expect_same_runs(const std::string& a, const std::string& b) {
  EXPECT_EQ(fs::path(newest_checkpoint(a)).filename(), fs::path(newest_checkpoint(b)).filename());
  expect_same_tensors(newest_checkpoint(a), newest_checkpoint(b));
  expect_same_tensors(a + "/last.safetensors", b + "/last.safetensors");
  expect_same_tensors(a + "/best.safetensors", b + "/best.safetensors");
}

inline std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::istringstream in(read_file(path));
  for (std::string line; std::getline(in, line);) lines.push_back(tools::parse_json_or_null(line));
  return lines;
}

// Those lines of a run's metrics that hold a training loss; the last one is of the test.
inline std::vector<json> epochs_of(const std::string& run) {
  std::vector<json> epochs;
  for (const json& line : lines_of(run + "/metrics.jsonl"))
    if (line.contains("train_loss")) epochs.push_back(line);
  return epochs;
}

}  // namespace plume::test
