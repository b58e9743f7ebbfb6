#include "data/sets/packed_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "data/sets/parallel.h"
#include "engine/core/error.h"
#include "engine/files/atomic_file.h"
#include "engine/files/read_file.h"

namespace plume::data {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(PackedImage) == 32);

constexpr char kMagic[8] = {'p', 'l', 'u', 'm', 'e', 'i', 'm', 'g'};
constexpr uint32_t kVersion = 2;  // also of how images are decoded and resized
constexpr size_t kPixelsAt = 4096;

struct PackedHeader {
  char magic[8] = {};
  uint32_t version = 0, header_bytes = 0;
  uint64_t source = 0;
  uint64_t images = 0, classes = 0, skipped = 0;
  uint64_t pixel_bytes = 0, index_bytes = 0;
  uint64_t index_hash = 0;
  uint64_t header_hash = 0;  // of what stands before it
};
static_assert(sizeof(PackedHeader) == 80);

template <class T>
std::span<const uint8_t> bytes_of(const T* values, size_t count) {
  return {reinterpret_cast<const uint8_t*>(values), count * sizeof(T)};
}

uint64_t hash_of(const PackedHeader& header) {
  return hash_bytes(bytes_of(&header, 1).first(offsetof(PackedHeader, header_hash)), kVersion);
}

class NameWriter {
 public:
  explicit NameWriter(std::vector<uint8_t>& bytes) : bytes_(bytes) {}
  void operator()(const std::string& name) {
    const auto length = uint32_t(name.size());
    const auto head = bytes_of(&length, 1);
    bytes_.insert(bytes_.end(), head.begin(), head.end());
    bytes_.insert(bytes_.end(), name.begin(), name.end());
  }

 private:
  std::vector<uint8_t>& bytes_;
};

// Reads what NameWriter wrote; false at the end of the bytes.
class NameReader {
 public:
  explicit NameReader(std::span<const uint8_t> bytes) : left_(bytes) {}
  bool operator()(std::string& name) {
    uint32_t length;
    if (left_.size() < sizeof length) return false;
    std::memcpy(&length, left_.data(), sizeof length);
    left_ = left_.subspan(sizeof length);
    if (left_.size() < length) return false;
    name.assign(reinterpret_cast<const char*>(left_.data()), length);
    left_ = left_.subspan(length);
    return true;
  }
  bool done() const { return left_.empty(); }

 private:
  std::span<const uint8_t> left_;
};

std::vector<uint8_t> to_bytes(const PackedIndex& index) {
  const auto images = bytes_of(index.images.data(), index.images.size());
  std::vector<uint8_t> bytes(images.begin(), images.end());
  NameWriter write(bytes);
  for (const std::string& name : index.class_names) write(name);
  for (const SkippedImage& image : index.skipped) write(image.path), write(image.reason);
  return bytes;
}

// False where the bytes do not hold what the header says.
bool read_index(const PackedHeader& header, std::span<const uint8_t> bytes, PackedIndex& index) {
  // Counts are bounded by the bytes before anything is allocated for them.
  if (header.images > bytes.size() / sizeof(PackedImage)) return false;
  const size_t image_bytes = size_t(header.images) * sizeof(PackedImage);
  const std::span<const uint8_t> names = bytes.subspan(image_bytes);
  if (header.classes > names.size() || header.skipped > names.size()) return false;
  index.images.resize(size_t(header.images));
  if (image_bytes > 0) std::memcpy(index.images.data(), bytes.data(), image_bytes);
  index.class_names.resize(size_t(header.classes));
  index.skipped.resize(size_t(header.skipped));
  NameReader read(names);
  for (std::string& name : index.class_names)
    if (!read(name)) return false;
  for (SkippedImage& image : index.skipped)
    if (!read(image.path) || !read(image.reason)) return false;
  if (!read.done()) return false;
  for (const PackedImage& image : index.images) {
    if (image.height <= 0 || image.width <= 0 || image.label < 0 || uint64_t(image.label) >= header.classes)
      return false;
    const uint64_t size = uint64_t(image.height) * uint64_t(image.width) * kChannels;
    if (image.offset < 0 || uint64_t(image.offset) > header.pixel_bytes ||
        size > header.pixel_bytes - uint64_t(image.offset))
      return false;
  }
  return true;
}

std::span<const uint8_t> pixels_of(const PackedImage& image, std::span<const uint8_t> pixels) {
  return pixels.subspan(size_t(image.offset), size_t(image.height) * size_t(image.width) * kChannels);
}

}  // namespace

struct PackedFileWriter::State {
  State(const std::string& path, uint64_t bytes) : file(path, bytes) {}
  AtomicFile file;
  uint64_t pixel_bytes = 0;
};

PackedFileWriter::PackedFileWriter(const std::string& path, uint64_t pixel_bytes)
    : state_(std::make_unique<State>(path, kPixelsAt + pixel_bytes)) {
  const std::array<uint8_t, kPixelsAt> nothing{};
  state_->file.write(nothing.data(), nothing.size());
}
PackedFileWriter::~PackedFileWriter() = default;

void PackedFileWriter::append(std::span<const uint8_t> pixels) {
  state_->file.write(pixels.data(), pixels.size());
  state_->pixel_bytes += pixels.size();
}

void PackedFileWriter::commit(const PackedIndex& index, uint64_t source) {
  const std::vector<uint8_t> bytes = to_bytes(index);
  state_->file.write(bytes.data(), bytes.size());
  PackedHeader header;
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.header_bytes = sizeof header;
  header.source = source;
  header.images = index.images.size();
  header.classes = index.class_names.size();
  header.skipped = index.skipped.size();
  header.pixel_bytes = state_->pixel_bytes;
  header.index_bytes = bytes.size();
  header.index_hash = hash_bytes(bytes);
  header.header_hash = hash_of(header);
  state_->file.overwrite(0, &header, sizeof header);
  state_->file.commit();
}

PackedFile open_packed_file(const std::string& path, uint64_t source, int threads) {
  const auto refuse = [&](const std::string& why) { fail(ErrorKind::bad_input, "{}: {}", path, why); };
  const MappedFile mapped = map_file(path, "packed images");
  const std::span<const uint8_t> bytes = mapped.bytes;
  PackedHeader header;
  if (bytes.size() < kPixelsAt)
    refuse(message("is damaged: has {} bytes, expected at least {}", bytes.size(), kPixelsAt));
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    refuse("is damaged: is not a file of packed images");
  if (header.version != kVersion) refuse(message("is of version {}, expected {}", header.version, kVersion));
  const bool padded = std::all_of(bytes.begin() + sizeof header, bytes.begin() + kPixelsAt,
                                  [](uint8_t byte) { return byte == 0; });
  if (header.header_bytes != sizeof header || header.header_hash != hash_of(header) || !padded)
    refuse("is damaged: the header's checksum is wrong");
  if (header.source != source) refuse("the images that it was made from have changed");
  const uint64_t body = bytes.size() - kPixelsAt;
  if (header.pixel_bytes > body || header.index_bytes != body - header.pixel_bytes)
    refuse(message("is damaged: has {} bytes, expected {}", bytes.size(),
                   kPixelsAt + header.pixel_bytes + header.index_bytes));
  PackedFile file;
  file.pixels = bytes.subspan(kPixelsAt, size_t(header.pixel_bytes));
  file.owner = mapped.owner;
  const std::span<const uint8_t> index = bytes.subspan(kPixelsAt + size_t(header.pixel_bytes));
  if (hash_bytes(index) != header.index_hash) refuse("is damaged: the index's checksum is wrong");
  if (!read_index(header, index, file.index)) refuse("is damaged: the index contradicts itself");

  const int64_t count = int64_t(file.index.images.size());
  std::atomic<int64_t> wrong{count};  // the first image whose pixels are damaged
  for_each_index(count, threads, [&](int64_t i) {
    const PackedImage& image = file.index.images[size_t(i)];
    if (hash_bytes(pixels_of(image, file.pixels)) == image.hash) return;
    for (int64_t first = wrong; i < first && !wrong.compare_exchange_weak(first, i);) {
    }
  });
  if (wrong < count) refuse(message("is damaged: the checksum of image {} is wrong", wrong.load()));
  return file;
}

uint64_t pixel_hash(const PackedIndex& index) {
  uint64_t hash = 0;
  for (const PackedImage& image : index.images) {
    const uint64_t parts[] = {uint64_t(image.height), uint64_t(image.width), image.hash};
    hash = hash_bytes(bytes_of(parts, 3), hash);
  }
  return hash;
}

DatasetContent to_content(const PackedIndex& index, std::span<const uint8_t> pixels,
                          std::shared_ptr<const void> owner) {
  DatasetContent content;
  for (const PackedImage& image : index.images) {
    content.labels.push_back(image.label);
    content.places.push_back({image.offset, image.height, image.width});
  }
  content.pixels = pixels;
  content.owner = std::move(owner);
  content.pixel_hash = pixel_hash(index);
  content.skipped = index.skipped;
  return content;
}

}  // namespace plume::data
