// A labelled set of images as bytes, in memory or in a file that is mapped into it.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plume::data {

enum class Split : uint8_t { train, val, test };
const char* name(Split split);
Split parse_split(std::string_view text);  // "train", "val", "test"; throws usage
// Throws usage, naming those that there are, unless the split is one of them.
void check_split(std::string_view dataset, Split split, const std::vector<Split>& there);

inline constexpr int kChannels = 3;

// One labelled image. The pixels belong to the data set and live as long as it does.
struct Sample {
  std::span<const uint8_t> pixels;  // [height, width, 3], RGB
  int height = 0, width = 0;
  int label = 0;  // in [0, classes)
};

// Per channel, of values in [0, 1]: an image enters a network as (x / 255 - mean) / std.
struct ChannelStatistics {
  std::array<float, kChannels> mean{0, 0, 0};
  std::array<float, kChannels> std{1, 1, 1};
  bool operator==(const ChannelStatistics&) const = default;
};
inline constexpr ChannelStatistics kImageNetStatistics{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};

// Files that are no image of a data set though they lie among them.
struct LeftOut {
  std::string kind;  // ".webp", "unreadable"
  int64_t count = 0;
};

// What a data set is, apart from its content.
struct DatasetInfo {
  std::string name;  // "cifar10"
  Split split = Split::train;
  int height = 0, width = 0;  // of every image; 0 when they differ
  std::vector<std::string> class_names;
  ChannelStatistics statistics;
  // Images come in sizes of their own, as photographs do, even where all of these happen to have one.
  bool any_size = false;
  std::string folder;  // where the split's files lie, as the disk names it; empty when there are none
  std::vector<LeftOut> left_out;  // of those files; most frequent first
};

// Where a data set's images come from, for reports.
struct DatasetDescription {
  std::string folder;
  Split split = Split::train;
  int64_t images = 0;
  std::vector<LeftOut> left_out;  // unreadable ones too
};
std::string to_line(const DatasetDescription& description);  // "val split, 4 images of d/val; left out: ..."
std::string to_line(const std::vector<LeftOut>& left_out);   // "12 .webp, 3 .tif, 1 .txt", brief

// An image's pixels among those of its data set.
struct ImagePlace {
  int64_t offset = 0;  // bytes
  int32_t height = 0, width = 0;
};

// An image that was left out because it cannot be read.
struct SkippedImage {
  std::string path, reason;
};

struct DatasetContent {
  std::vector<int32_t> labels;
  std::vector<ImagePlace> places;     // one per label
  std::span<const uint8_t> pixels;    // of all images
  std::shared_ptr<const void> owner;  // keeps the pixels alive
  uint64_t pixel_hash = 0;            // tells them from other pixels
  std::vector<SkippedImage> skipped;
};

// Immutable once made, so that any number of threads may read it.
class Dataset {
 public:
  // pixels: [count, height, width, 3]; labels: [count]. Throws internal when the sizes disagree or a label is
  // out of range: readers check their files before.
  Dataset(DatasetInfo info, std::vector<uint8_t> pixels, std::vector<int32_t> labels);
  // Images of any sizes; info.height and width are found here. Throws internal as above.
  Dataset(DatasetInfo info, DatasetContent content);
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  int64_t size() const { return int64_t(content_.labels.size()); }
  virtual Sample get(int64_t i) const;  // throws usage when i is not in [0, size)
  // These images, in this order, as a set of its own that shares the pixels. Its fingerprint is a function of
  // this one's and the choice. Throws usage on an image that there is not.
  std::shared_ptr<const Dataset> subset(std::span<const int64_t> images) const;

  const DatasetInfo& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  Split split() const { return info_.split; }
  int classes() const { return int(info_.class_names.size()); }
  const std::vector<std::string>& class_names() const { return info_.class_names; }
  // Whether all images are of one size, which is then height() x width(); these are 0 otherwise.
  bool uniform() const { return info_.height > 0; }
  int height() const { return info_.height; }
  int width() const { return info_.width; }
  // The usual statistics of the training split, for all splits.
  const ChannelStatistics& statistics() const { return info_.statistics; }
  // 16 hexadecimal digits over sizes, class names, labels and pixels: the same content has the same one.
  const std::string& fingerprint() const { return fingerprint_; }
  const std::vector<SkippedImage>& skipped() const { return content_.skipped; }
  DatasetDescription description() const;

 private:
  void check_labels() const;
  ImagePlace place_of(int64_t i) const;

  DatasetInfo info_;
  DatasetContent content_;  // of a set made from one vector of pixels, without places
  std::string fingerprint_;
};

std::string hexadecimal(uint64_t value);  // 16 digits

// 64-bit hash of bytes (not cryptographic), the same on every little-endian machine.
uint64_t hash_bytes(std::span<const uint8_t> bytes, uint64_t seed = 0);
uint64_t hash_text(std::string_view text, uint64_t seed = 0);

}  // namespace plume::data
