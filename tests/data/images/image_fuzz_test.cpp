// Damaged image files through every decoder: an image or one line of bad_input, no crash, no sanitizer's
// report. PLUME_FUZZ_RUNS sets how many of each format: 100000 take minutes under the address sanitizer.
#include <gtest/gtest.h>

#include <algorithm>

#include "data/images/image.h"
#include "data/images/image_format.h"
#include "data/images/png_reader.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/serialization/safetensors.h"
#include "tests/support/fuzz.h"
#include "tests/support/test_support.h"

namespace plume::data::image_fuzz_test {
namespace {

using File = std::vector<uint8_t>;

std::vector<File> small_files(ImageFormat format) {
  std::vector<File> files;
  for (const char* fixture : {"jpeg_pillow.safetensors", "image_files_pillow.safetensors"}) {
    const SafetensorsFile file(test::fixture(fixture));
    for (const TensorInfo& info : file.tensors()) {
      if (!info.name.ends_with(".file")) continue;
      File bytes = file.read(info).to_vector<uint8_t>();
      if (image_format(bytes) == format) files.push_back(std::move(bytes));
    }
  }
  return files;
}

class Mutator {
 public:
  Mutator(const std::vector<File>& files, uint64_t seed) : files_(files), random_(seed) {}

  File next() {
    File file = files_[below(files_.size())];
    for (size_t steps = 1 + below(4); steps > 0 && !file.empty(); --steps) change(file);
    if (below(4) != 0) repair_png(file);
    return file;
  }

 private:
  size_t below(size_t n) { return size_t(random_.below(uint32_t(n))); }
  // Half of them in the first bytes, where the headers are.
  size_t place(const File& file) {
    return below(2) == 0 ? below(std::min<size_t>(file.size(), 64)) : below(file.size());
  }

  void change(File& file) {
    const size_t at = place(file);
    switch (below(7)) {
      case 0:
        file[at] ^= uint8_t(1 << below(8));
        break;
      case 1:
        file[at] = uint8_t(below(256));
        break;
      case 2:
        file[at] = below(2) == 0 ? 0xFF : 0;
        break;
      case 3: {  // a number of a header
        constexpr uint32_t kNumbers[] = {0,      1,      2,          255,        256,
                                         0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
        const uint32_t value = kNumbers[below(std::size(kNumbers))];
        const size_t size = below(2) == 0 ? 2 : 4;
        const bool big = below(2) == 0;
        for (size_t i = 0; i < size && at + i < file.size(); ++i)
          file[at + i] = uint8_t(value >> 8 * (big ? size - 1 - i : i));
        break;
      }
      case 4:
        file.resize(below(4) == 0 ? at : file.size() - below(std::min<size_t>(file.size(), 16)));
        break;
      case 5: {  // a part of another file, or of this one
        const File& other = below(2) == 0 ? file : files_[below(files_.size())];
        const size_t from = below(other.size());
        const File part(other.begin() + std::ptrdiff_t(from),
                        other.begin() + std::ptrdiff_t(std::min(other.size(), from + 1 + below(200))));
        file.insert(file.begin() + std::ptrdiff_t(at), part.begin(), part.end());
        break;
      }
      default: {  // a piece less
        const size_t count = std::min(1 + below(16), file.size() - at);
        file.erase(file.begin() + std::ptrdiff_t(at), file.begin() + std::ptrdiff_t(at + count));
      }
    }
  }

  // Right checksums, without which nothing behind them is reached.
  static void repair_png(File& file) {
    if (file.size() < 8 || file[0] != 0x89) return;
    for (size_t at = 8; file.size() - at >= 12;) {
      size_t length = 0;
      for (size_t i = 0; i < 4; ++i) length = length << 8 | file[at + i];
      if (length > file.size() - at - 12) return;
      const uint32_t crc = png_checksum({file.data() + at + 4, length + 4});
      at += length + 12;
      for (size_t i = 0; i < 4; ++i) file[at - 4 + i] = uint8_t(crc >> (24 - 8 * i));
    }
  }

  const std::vector<File>& files_;
  RandomSequence random_;
};

void expect_images_or_refusals(ImageFormat format) {
  const int runs = int(test::fuzz_runs(800));
  const std::vector<File> files = small_files(format);
  ASSERT_GT(files.size(), 5u);
  Mutator mutator(files, test::fuzz_seed());
  int read = 0, refused = 0;
  for (int i = 0; i < runs; ++i) {
    const File file = mutator.next();
    for (const DecodeOptions& options :
         {DecodeOptions{}, DecodeOptions{.least_side = 5}, DecodeOptions{.own_decoders = true}}) {
      try {
        const Image image = decode_image(file, "x", options);
        ASSERT_EQ(image.pixels.size(), size_t(image.height) * size_t(image.width) * 3) << "run " << i;
        ++read;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::bad_input) << "run " << i << ": " << error.what();
        ++refused;
      }
    }
  }
  // Neither all nor none: then nothing would be tested.
  EXPECT_GT(read, runs / 10);
  EXPECT_GT(refused, runs / 10);
}

TEST(Fuzz, DamagedJpegs) { expect_images_or_refusals(ImageFormat::jpeg); }
TEST(Fuzz, DamagedPngs) { expect_images_or_refusals(ImageFormat::png); }
TEST(Fuzz, DamagedBmps) { expect_images_or_refusals(ImageFormat::bmp); }
TEST(Fuzz, DamagedPnms) { expect_images_or_refusals(ImageFormat::pnm); }

}  // namespace
}  // namespace plume::data::image_fuzz_test
