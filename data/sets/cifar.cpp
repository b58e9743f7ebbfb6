#include "data/sets/cifar.h"

#include <filesystem>
#include <utility>

#include "engine/core/error.h"
#include "engine/files/read_file.h"

namespace plume::data {
namespace {

constexpr int kCifarSide = 32;
constexpr size_t kPlane = size_t(kCifarSide) * kCifarSide, kImage = kPlane * kChannels;

// The same images as pickles, which are programs, or as Matlab's files: names what is there and what to
// fetch.
void explain_other_version(const CifarFormat& format, const std::filesystem::path& root,
                           const std::string& archive) {
  namespace fs = std::filesystem;
  struct Version {
    const char *language, *folder, *file, *companion;
  };
  const bool ten = format.coarse_classes == 0;
  const Version versions[] = {
      {"Python", ten ? "cifar-10-batches-py" : "cifar-100-python", ten ? "data_batch_1" : "train",
       ten ? "batches.meta" : "meta"},
      {"Matlab", ten ? "cifar-10-batches-mat" : "cifar-100-matlab", ten ? "data_batch_1.mat" : "train.mat",
       ten ? "batches.meta.mat" : "meta.mat"}};
  std::error_code ignored;
  for (const auto& [language, folder, file, companion] : versions) {
    const std::string packed = format.archive + (language[0] == 'P' ? "-python.tar.gz" : "-matlab.tar.gz");
    std::string found;
    for (const fs::path& place : {root, root / folder})
      if (fs::exists(place / file, ignored) && fs::exists(place / companion, ignored))
        found = (place / file).string();
    if (found.empty() && fs::exists(root / packed, ignored)) found = (root / packed).string();
    if (!found.empty())
      fail(ErrorKind::bad_input,
           "{}: is {} in its version for {}, expected the binary version: fetch {} from "
           "https://www.cs.toronto.edu/~kriz/cifar.html (tools/fetch_data.sh {}) and unpack it",
           found, format.title, language, archive, format.name);
  }
}

// DIR itself when it has any of the files, else DIR/folder, so that a partial copy is complained about where
// it lies.
std::string find_folder(const CifarFormat& format, const std::string& dir) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path root(dir), nested = root / format.folder;
  if (!fs::is_directory(root, ignored))
    fail(ErrorKind::bad_input, "{}: {}, expected the folder of {}", dir,
         fs::exists(root, ignored) ? "is not a folder" : "no such folder", format.title);
  for (const fs::path& candidate : {root, nested})
    for (const auto* files : {&format.train_files, &format.test_files})
      for (const std::string& file : *files)
        if (fs::exists(candidate / file, ignored)) return candidate.string();
  const std::string archive = format.archive + "-binary.tar.gz";
  explain_other_version(format, root, archive);
  fail(ErrorKind::bad_input, "{}: no {} here: neither it nor {} has {}{}", dir, format.title, nested.string(),
       format.train_files.front(),
       fs::exists(root / archive, ignored) ? "; the archive in it must be unpacked first" : "");
}

// Which file of either data set has this many bytes, to explain a wrong size.
void explain_other(const CifarFormat& format, const std::string& path, int64_t expected) {
  std::error_code error;
  const uintmax_t found = std::filesystem::file_size(path, error);
  if (error || !std::filesystem::is_regular_file(path, error) || int64_t(found) == expected) return;
  for (const CifarFormat* other : {&cifar10_format(), &cifar100_format()}) {
    const int64_t record = int64_t(kImage) + 1 + (other->coarse_classes > 0 ? 1 : 0);
    for (const int64_t records : {other->train_records, other->test_records})
      if (other->name != format.name && int64_t(found) == records * record)
        fail(ErrorKind::bad_input, "{}: has {} bytes like a file of {}, expected {} bytes of {} records",
             path, found, other->title, expected, format.title);
  }
}

// Planes to interleaved pixels.
void interleave(const uint8_t* planes, uint8_t* pixels) {
  for (size_t i = 0; i < kPlane; ++i)
    for (size_t c = 0; c < kChannels; ++c) pixels[i * kChannels + c] = planes[c * kPlane + i];
}

}  // namespace

const CifarFormat& cifar10_format() {
  static const CifarFormat format = {
      .name = "cifar10",
      .title = "CIFAR-10",
      .folder = "cifar-10-batches-bin",
      .archive = "cifar-10",
      .train_files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                      "data_batch_5.bin"},
      .test_files = {"test_batch.bin"},
      .train_records = 10'000,
      .test_records = 10'000,
      .coarse_classes = 0,
      .class_names = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                      "truck"},
      .statistics = {{0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}}};
  return format;
}

const CifarFormat& cifar100_format() {
  static const CifarFormat format = {
      .name = "cifar100",
      .title = "CIFAR-100",
      .folder = "cifar-100-binary",
      .archive = "cifar-100",
      .train_files = {"train.bin"},
      .test_files = {"test.bin"},
      .train_records = 50'000,
      .test_records = 10'000,
      .coarse_classes = 20,
      .class_names = {"apple",    "aquarium_fish", "baby",       "bear",         "beaver",
                      "bed",      "bee",           "beetle",     "bicycle",      "bottle",
                      "bowl",     "boy",           "bridge",     "bus",          "butterfly",
                      "camel",    "can",           "castle",     "caterpillar",  "cattle",
                      "chair",    "chimpanzee",    "clock",      "cloud",        "cockroach",
                      "couch",    "crab",          "crocodile",  "cup",          "dinosaur",
                      "dolphin",  "elephant",      "flatfish",   "forest",       "fox",
                      "girl",     "hamster",       "house",      "kangaroo",     "keyboard",
                      "lamp",     "lawn_mower",    "leopard",    "lion",         "lizard",
                      "lobster",  "man",           "maple_tree", "motorcycle",   "mountain",
                      "mouse",    "mushroom",      "oak_tree",   "orange",       "orchid",
                      "otter",    "palm_tree",     "pear",       "pickup_truck", "pine_tree",
                      "plain",    "plate",         "poppy",      "porcupine",    "possum",
                      "rabbit",   "raccoon",       "ray",        "road",         "rocket",
                      "rose",     "sea",           "seal",       "shark",        "shrew",
                      "skunk",    "skyscraper",    "snail",      "snake",        "spider",
                      "squirrel", "streetcar",     "sunflower",  "sweet_pepper", "table",
                      "tank",     "telephone",     "television", "tiger",        "tractor",
                      "train",    "trout",         "tulip",      "turtle",       "wardrobe",
                      "whale",    "willow_tree",   "wolf",       "woman",        "worm"},
      .statistics = {{0.5071f, 0.4865f, 0.4409f}, {0.2673f, 0.2564f, 0.2762f}}};
  return format;
}

DatasetInfo cifar_traits(const CifarFormat& format) {
  return {.name = format.name,
          .height = kCifarSide,
          .width = kCifarSide,
          .class_names = format.class_names,
          .statistics = format.statistics};
}

std::shared_ptr<const Dataset> load_cifar(const CifarFormat& format, const std::string& dir, Split split) {
  check_split(format.name, split, {Split::train, Split::test});
  const std::string folder = find_folder(format, dir);
  const std::vector<std::string>& files = split == Split::train ? format.train_files : format.test_files;
  const int64_t records = split == Split::train ? format.train_records : format.test_records;
  const size_t label_bytes = format.coarse_classes > 0 ? 2 : 1, record_bytes = label_bytes + kImage;
  const int64_t file_bytes = records * int64_t(record_bytes);

  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels;
  std::vector<std::pair<uint64_t, std::string>> seen;
  pixels.reserve(files.size() * size_t(records) * kImage);
  labels.reserve(files.size() * size_t(records));
  for (const std::string& file : files) {
    const std::string path = (std::filesystem::path(folder) / file).string();
    explain_other(format, path, file_bytes);
    const std::vector<uint8_t> bytes = read_sized_file(path, file_bytes, format.title + " records");

    const uint64_t hash = hash_bytes(bytes);
    for (const auto& [other_hash, other_path] : seen)
      if (other_hash == hash)
        fail(ErrorKind::bad_input, "{}: has the same content as {}, expected another part of {}", path,
             other_path, format.title);
    seen.emplace_back(hash, path);

    size_t at = pixels.size();
    pixels.resize(at + size_t(records) * kImage);
    for (int64_t r = 0; r < records; ++r, at += kImage) {
      const size_t offset = size_t(r) * record_bytes;
      const uint8_t* record = bytes.data() + offset;
      const auto check_label = [&](size_t position, size_t classes, const char* which) {
        if (record[position] >= classes)
          fail(ErrorKind::bad_input, "{}: record {} (byte {}) has {} {}, expected 0 to {}", path, r,
               offset + position, which, int(record[position]), classes - 1);
      };
      if (format.coarse_classes > 0) check_label(0, size_t(format.coarse_classes), "coarse label");
      check_label(label_bytes - 1, format.class_names.size(), "label");
      labels.push_back(record[label_bytes - 1]);
      interleave(record + label_bytes, pixels.data() + at);
    }
  }
  DatasetInfo info = cifar_traits(format);
  info.split = split;
  info.folder = folder;
  return std::make_shared<const Dataset>(std::move(info), std::move(pixels), std::move(labels));
}

}  // namespace plume::data
