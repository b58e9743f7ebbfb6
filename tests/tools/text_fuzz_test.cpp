// Damaged lists, labels, descriptions and settings: each reader takes them or throws bad_input or usage with
// a message. As many of each as PLUME_FUZZ_RUNS says; worth running under the sanitizers.
#include "data/sets/image_source.h"
#include "engine/core/random.h"
#include "tests/support/fuzz.h"
#include "tests/tools/training_run.h"
#include "tools/cli/json.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/config.h"

namespace plume::test::text_fuzz_test {
namespace {

// Changes bytes, puts in what readers of text trip over, takes away and repeats.
class TextMutator {
 public:
  size_t below(size_t n) { return size_t(random_.below(n)); }

  std::string next(std::string text) {
    static const std::vector<std::string> kTrips = {"\n",
                                                    "\r\n",
                                                    "\r",
                                                    "\t",
                                                    "\"",
                                                    "\"\"",
                                                    ",",
                                                    "\\",
                                                    "\\x",
                                                    "\\xE9",
                                                    "\xEF\xBB\xBF",
                                                    "\xFF",
                                                    "\xC3",
                                                    "-1",
                                                    "nan",
                                                    "1e999",
                                                    "99999999999999999999",
                                                    "{",
                                                    "[",
                                                    "}",
                                                    "]",
                                                    ":",
                                                    "..",
                                                    "/",
                                                    std::string(1, '\0')};
    for (size_t rounds = 1 + below(3); rounds > 0; --rounds) {
      const size_t at = below(text.size() + 1), length = 1 + below(8);
      switch (below(6)) {
        case 0:
          if (at < text.size()) text[at] = char(text[at] ^ (1 << below(8)));
          break;
        case 1:
          if (at < text.size()) text[at] = char(below(256));
          break;
        case 2:
        case 3:
          text.insert(at, kTrips[below(kTrips.size())]);
          break;
        case 4:
          text.insert(at, text.substr(below(text.size() + 1), length));
          break;
        default:
          text.erase(at, below(8) == 0 ? std::string::npos : length);
      }
    }
    return text;
  }

 private:
  RandomSequence random_{fuzz_seed(), 7};
};

// Calls read(i) for each run, which reads something damaged. Neither all nor none of it may be refused: then
// nothing would be tested.
void expect_read_or_refused(const std::function<void()>& read) {
  const int runs = int(fuzz_runs(500));
  int good = 0;
  for (int i = 0; i < runs; ++i) try {
      read();
      ++good;
    } catch (const Error& error) {
      ASSERT_TRUE(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::usage) << error.what();
      ASSERT_FALSE(std::string(error.what()).empty());
    }
  EXPECT_GT(good, runs / 100);
  EXPECT_LT(good, runs - runs / 100);
}

TEST(TextFuzz, Labels) {
  const TemporaryFolder folder;
  const std::string path = folder.file("labels.txt");
  TextMutator mutator;
  expect_read_or_refused([&] {
    write_file(path, mutator.next("caf\xC3\xA9\ntea, hot\r\n\"milk\"\nwater"));
    ASSERT_EQ(tools::read_labels(path, 4).size(), 4u);
  });
}

TEST(TextFuzz, DescriptionsOfNetworks) {
  const std::map<std::string, std::string> right = {{"resize", "256"},
                                                    {"crop", "48x32"},
                                                    {"interpolation", "bicubic"},
                                                    {"mean", "0.485,0.456,0.406"},
                                                    {"rotate180", "1"},
                                                    {"std", "0.229,0.224,0.225"},
                                                    {"squash", "0"},
                                                    {"labels", "a\\xE9\nb\\\\\nc"},
                                                    {"data", "cifar10"}};
  TextMutator mutator;
  expect_read_or_refused([&] {
    auto damaged = right;
    auto one = std::next(damaged.begin(), std::ptrdiff_t(mutator.below(damaged.size())));
    one->second = mutator.next(one->second);
    tools::to_metadata(tools::describe_network("x", damaged, "resnet18"));
  });
}

TEST(TextFuzz, Settings) {
  const TemporaryFolder folder;
  const std::string path = folder.file("config.json");
  TextMutator mutator;
  expect_read_or_refused([&] {
    write_file(path,
               mutator.next(R"({"recipe": {"epochs": 3, "lr": 0.1, "model": "resnet18", "no_flip": true},)"
                            R"( "options": {"workers": 0, "data_dir": "caf\u00e9"}})"));
    tools::Recipe recipe;
    tools::RunOptions options;
    tools::read_config(path, recipe, options);
  });
}

TEST(TextFuzz, TinyImageNetsLists) {
  const TemporaryFolder folder;
  const std::pair<std::string, std::string> lists[] = {
      {"wnids.txt", "n03\nn01\nn02\n"},
      {"words.txt", "n01\tgoldfish, Carassius\nn02\t\"the \"\"crane\"\"\"\nn03\tcab\n"},
      {"val/val_annotations.txt", "val_0.JPEG\tn02\t0\t32\r\n\"val_1.JPEG\"\tn03\n"}};
  fs::create_directories(folder.path() / "val" / "images");
  for (const auto& [name, text] : lists) write_file(folder.file(name), text);
  TextMutator mutator;
  expect_read_or_refused([&] {
    const auto& [name, text] = lists[mutator.below(std::size(lists))];
    write_file(folder.file(name), mutator.next(text));
    try {
      data::list_tiny_imagenet(folder.path().string(), data::Split::val);
    } catch (const Error&) {
      write_file(folder.file(name), text);
      throw;
    }
    write_file(folder.file(name), text);
  });
}

}  // namespace
}  // namespace plume::test::text_fuzz_test
