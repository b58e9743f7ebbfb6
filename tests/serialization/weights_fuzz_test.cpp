// Damaged files of weights: every reader either takes them or throws bad_input with one line. Mutations of
// small good files, as many as PLUME_FUZZ_RUNS says (1,000 per reader otherwise); PLUME_FUZZ_SEED begins
// elsewhere. Worth running under the sanitizers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "engine/serialization/fit_weights.h"
#include "engine/serialization/pickle.h"
#include "engine/serialization/state_dict.h"
#include "tests/serialization/tiny_net.h"
#include "tests/serialization/torch_writer.h"
#include "tests/support/fuzz.h"
#include "tests/support/test_support.h"

namespace plume::weights_fuzz_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Flips, overwrites, inserts, removes, repeats and exchanges bytes; now and then puts in an opcode or a
// number that readers trip over.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string operator()(std::string bytes, const std::string& other) {
    for (size_t rounds = 1 + below(4); rounds > 0; --rounds) {
      const size_t at = below(bytes.size() + 1), length = 1 + below(16);
      switch (below(8)) {
        case 0:
          if (at < bytes.size()) bytes[at] = char(bytes[at] ^ (1 << below(8)));
          break;
        case 1:
          if (at < bytes.size()) bytes[at] = char(below(256));
          break;
        case 2:
          bytes.insert(at, noise(length));
          break;
        case 3:
          bytes.erase(at, length);
          break;
        case 4:
          bytes.insert(at, bytes.substr(below(bytes.size() + 1), length));
          break;
        case 5:
          bytes.insert(at, other.substr(below(other.size() + 1), 4 * length));
          break;
        case 6:
          bytes.replace(at, std::min<size_t>(8, bytes.size() - at), wild_number());
          break;
        default:
          bytes.resize(below(8) == 0 ? at : bytes.size());
      }
    }
    return bytes;
  }
  size_t below(size_t count) { return size_t(random_() % count); }

 private:
  std::string noise(size_t length) {
    static const std::string kOpcodes =
        "cRbQ(t\x85\x86\x87)]}N\x88\x89JKMGXUhjqraesu\x81\x8A\x8B\x8C\x8D\x8E\x8F\x90\x91\x92\x93\x94\x95"
        "BCITdgilop012";
    std::string text;
    while (text.size() < length) text += below(2) == 0 ? char(below(256)) : kOpcodes[below(kOpcodes.size())];
    return text;
  }
  std::string wild_number() {
    constexpr uint64_t kWild[] = {0, 1, 0x7F, 0xFFFF, 0xFFFFFFFF, INT64_MAX, UINT64_MAX, uint64_t{1} << 62};
    return test::raw(kWild[below(std::size(kWild))]).substr(0, size_t{1} << below(4));
  }

  std::mt19937_64 random_;
};

// One line of a kind that is no bug of ours.
template <class Read>
bool taken(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    EXPECT_LT(std::strlen(error.what()), 2000u);
    return false;
  }
}

class Fuzz : public testing::Test {
 protected:
  const uint64_t runs_ = test::fuzz_runs(1000);
  Mutator mutate_{test::fuzz_seed()};
};

// In an order that does not depend on the file system.
std::vector<std::string> wrapped_files() {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(test::fixture("wrapped"))) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

// data.pkl of an archive of torch.save(): its bytes lie in the file as they are.
std::string pickle_in(const std::string& archive) {
  const InputFile file(archive);
  const ZipArchive zip(file);
  for (const ZipEntry& entry : zip.entries())
    if (entry.name.ends_with("/data.pkl")) return file.read_text(entry.begin, entry.size);
  return "";
}

TEST_F(Fuzz, Pickles) {
  std::vector<std::string> seeds;
  for (const std::string& path : wrapped_files())
    if (test::read_file(path).starts_with("PK")) seeds.push_back(pickle_in(path));
  ASSERT_GT(seeds.size(), 10u);
  size_t good = 0;
  for (uint64_t run = 0; run < runs_; ++run) {
    const std::string& other = seeds[mutate_.below(seeds.size())];
    const std::string bytes = mutate_(seeds[run % seeds.size()], other);
    good += taken([&] { Pickle(bytes, "FILE"); });
  }
  EXPECT_GT(good, 0u);
  EXPECT_LT(good, runs_);
}

// Wrong pickles under right checksums, so that it is not the archive that refuses them.
TEST_F(Fuzz, TorchFiles) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("w.pth");
  std::vector<std::string> whole, pickles;
  for (const std::string& file : wrapped_files()) {
    whole.push_back(test::read_file(file));
    pickles.push_back(whole.back().starts_with("PK") ? pickle_in(file) : "");
  }
  test::TinyNet net;
  const std::vector<TensorSource> wanted = state_sources({{"", net.state()}});
  size_t good = 0;
  for (uint64_t run = 0; run < runs_; ++run) {
    const size_t i = run % whole.size();
    const std::string& other = whole[mutate_.below(whole.size())];
    if (pickles[i].empty() || mutate_.below(2) == 0) {
      test::write_file(path, mutate_(whole[i], other));
    } else {
      std::vector<test::ZipItem> items = {{.name = "top/data.pkl", .content = mutate_(pickles[i], other)}};
      for (const int elements : {54, 75, 3, 3, 3, 3, 2, 12, 4})
        items.push_back({.name = "top/data/" + std::to_string(items.size() - 1),
                         .content = std::string(size_t(elements) * 4, '\1')});
      test::write_file(path, test::zip_of(items));
    }
    good += taken([&] {
      const Weights weights = open_weights(path);
      for (const WeightGroup& group : weights.groups)
        for (const WeightTensor& t : group.tensors) t.read();
      const FittedWeights fitted = fit_weights(weights, wanted, {.head = "fc."});
      load_state(fitted.weights, net);
    });
  }
  EXPECT_GT(good, 0u);
  EXPECT_LT(good, runs_);
}

TEST_F(Fuzz, Safetensors) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("w.safetensors");
  test::TinyNet net;
  save_state(path, net);
  const std::string right = test::read_file(path);
  uint64_t header = 0;
  std::memcpy(&header, right.data(), 8);
  const std::string words = R"([{"dtype":"F64","shape":[-1,1e9,18446744073709551615],"data_offsets":[0,]}])";
  size_t good = 0;
  for (uint64_t run = 0; run < runs_; ++run) {
    std::string bytes = right;
    if (mutate_.below(2) == 0) {  // under a right length of the header
      const std::string text = mutate_(right.substr(8, header), words);
      bytes = test::raw(uint64_t(text.size())) + text + right.substr(8 + header);
    } else {
      bytes = mutate_(right, words);
    }
    test::write_file(path, bytes);
    good += taken([&] {
      const Weights weights = open_weights(path);
      for (const WeightTensor& t : weights.tensors) t.read();
      load_state(fit_weights(weights, state_sources({{"", net.state()}}), {.head = "fc."}).weights, net);
    });
  }
  EXPECT_GT(good, 0u);
  EXPECT_LT(good, runs_);
}

}  // namespace
}  // namespace plume::weights_fuzz_test
