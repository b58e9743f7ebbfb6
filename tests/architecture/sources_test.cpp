// Sources can be read at a sitting, and on half a screen.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "engine/core/text.h"
#include "tests/support/test_support.h"

namespace plume::sources_test {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLines = 400;
constexpr size_t kMostColumns = 110;
const std::set<std::string> kFolders{"engine", "kernels", "models", "data", "tools", "bench", "tests"};
const std::set<std::string> kCode{".h", ".cpp", ".cu"};
const std::set<std::string> kScripts{".py", ".sh", ".cmake", ".js", ".css", ".html"};

// Relative paths of the files with one of these extensions; what was measured is not written by hand.
std::vector<std::string> files_with(const std::set<std::string>& extensions) {
  const fs::path root = PLUME_SOURCE_DIR;
  std::vector<std::string> files;
  for (const std::string& folder : kFolders)
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string path = fs::relative(entry.path(), root);
      if (extensions.contains(entry.path().extension()) && !path.starts_with("bench/results"))
        files.push_back(path);
    }
  return files;
}

std::vector<std::string> lines_of(const std::string& path) {
  std::istringstream text(test::read_file(PLUME_SOURCE_DIR "/" + path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// Letters beyond ASCII are one column each.
size_t columns(const std::string& line) {
  return size_t(std::count_if(line.begin(), line.end(), [](char c) { return (uint8_t(c) & 0xC0) != 0x80; }));
}

TEST(Sources, CanBeReadAtASitting) {
  const auto is_data = [](const std::string& path) {
    return path == "data/sets/imagenet_labels.cpp" || path.starts_with("tests/fixtures/");
  };
  std::set<std::string> all = kCode;
  all.insert(kScripts.begin(), kScripts.end());
  const std::vector<std::string> files = files_with(all);
  EXPECT_GT(files.size(), 400u);
  for (const std::string& path : files)
    EXPECT_TRUE(is_data(path) || lines_of(path).size() <= kMostLines)
        << path << " has " << lines_of(path).size() << " lines";
}

TEST(Sources, LinesAreShort) {
  for (const std::string& path : files_with(kCode)) {
    const std::vector<std::string> lines = lines_of(path);
    for (size_t i = 0; i < lines.size(); ++i)
      EXPECT_LE(columns(lines[i]), kMostColumns) << path << ":" << i + 1;
  }
}

// Prose, that is: tables, commands and drawings keep their lines.
TEST(Sources, PagesHaveShortLines) {
  for (const std::string& path : files_with({".md"})) {
    const std::vector<std::string> lines = lines_of(path);
    bool fenced = false;
    for (size_t i = 0; i < lines.size(); ++i) {
      fenced = fenced != lines[i].starts_with("```");
      if (fenced || lines[i].starts_with("|")) continue;
      EXPECT_LE(columns(lines[i]), kMostColumns) << path << ":" << i + 1;
    }
  }
}

// Files of a folder are compiled together, those of operations', the emulator's and cuDNN's tests excepted.
TEST(Sources, TestsHaveNamespacesOfTheirOwn) {
  size_t tests = 0;
  for (const std::string& path : files_with({".cpp"})) {
    const std::string stem = fs::path(path).stem();
    if (!path.starts_with("tests/") || !stem.ends_with("_test")) continue;
    if (path.starts_with("tests/ops/") || path.starts_with("tests/simt/") ||
        path.starts_with("tests/cudnn_plan/"))
      continue;
    ++tests;
    const std::vector<std::string> lines = lines_of(path);
    EXPECT_TRUE(std::any_of(lines.begin(), lines.end(),
                            [&](const std::string& line) {
                              return line.starts_with("namespace plume") &&
                                     line.ends_with("::" + stem + " {");
                            }))
        << path << ": no namespace ...::" << stem;
  }
  EXPECT_GT(tests, 80u);
}

}  // namespace
}  // namespace plume::sources_test
