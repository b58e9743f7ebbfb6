// Decoded images in one file that is mapped into memory.
//
//   0         PackedHeader
//   4096      pixels, image after image: [height, width, 3], RGB
//   then      PackedImage [images], then names: of the classes, and path and reason of each image that was
//             left out; each as u32 length and bytes
//
// Little-endian. Every byte is covered by a hash (hash_bytes): each image's pixels by its own in the index,
// the index by the header's, the header by its last word.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

struct PackedImage {
  int64_t offset = 0;  // from the first pixel
  int32_t height = 0, width = 0;
  int32_t label = 0, unused = 0;
  uint64_t hash = 0;  // of the pixels
};

struct PackedIndex {
  std::vector<PackedImage> images;
  std::vector<std::string> class_names;
  std::vector<SkippedImage> skipped;
};

class PackedFileWriter {
 public:
  // Nothing is at `path` before commit(). `pixel_bytes`: how many there will be, 0 when not known. Throws
  // resource, naming path and reason, as the others do.
  PackedFileWriter(const std::string& path, uint64_t pixel_bytes);
  ~PackedFileWriter();
  void append(std::span<const uint8_t> pixels);
  // `source` identifies what was packed. Returns when the file is on the disk.
  void commit(const PackedIndex& index, uint64_t source);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct PackedFile {
  PackedIndex index;
  std::span<const uint8_t> pixels;
  std::shared_ptr<const void> owner;  // the mapping
};

// Maps the file and checks all of it, on `threads` threads (0: one per core). Throws bad_input, naming path
// and reason: not there, of another version, made from another source, damaged (and where).
PackedFile open_packed_file(const std::string& path, uint64_t source, int threads);

// Over images and their hashes: tells the pixels of one set from those of another.
uint64_t pixel_hash(const PackedIndex& index);
// What a Dataset is made of.
DatasetContent to_content(const PackedIndex& index, std::span<const uint8_t> pixels,
                          std::shared_ptr<const void> owner);

}  // namespace plume::data
