// Named tensors in a file: the safetensors format (https://github.com/huggingface/safetensors).
//
// 8 bytes: length N of the header, little endian. N bytes: a JSON object, name -> {dtype, shape,
// data_offsets}, and under "__metadata__" a map of strings. Then the tensors, back to back.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/tensor.h"
#include "engine/files/input_file.h"

namespace plume {

// An element type of the format. `dtype` is empty where this engine has no such type.
struct FormatDType {
  const char* name;
  int bits;
  std::optional<DType> dtype;
};
std::span<const FormatDType> format_dtypes();
const FormatDType& format_dtype(DType dtype);

struct TensorInfo {
  std::string name;
  const FormatDType* type = nullptr;
  std::vector<uint64_t> shape;  // may not fit a Shape: [0, 2^64 - 1] is legal
  uint64_t begin = 0, end = 0;  // bytes, counted from the end of the header

  std::string describe() const;  // "F32 [64, 3, 7, 7]"
  bool has_shape(const Shape& expected) const;
};

// An open file whose header has been checked in full: every tensor lies inside, they neither overlap nor
// leave holes, and each has as many bytes as its shape and type say. Contents are read on demand.
//
// Throws bad_input: "PATH: CLASS: what was found and expected", CLASS being one of HeaderTooSmall,
// HeaderTooLarge, InvalidHeaderLength, InvalidHeader (not UTF-8), InvalidHeaderDeserialization,
// InvalidOffset, ValidationOverflow, MisalignedSlice, TensorInvalidInfo, MetadataIncompleteBuffer. Stricter
// than the format: no duplicate keys, rank <= 8, at most 65,536 tensors, names of at most 1 KiB without NUL.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }
  const std::string& header() const { return header_; }                // the JSON text; it begins at byte 8
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of their bytes
  const TensorInfo* find(const std::string& name) const;               // null when absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // One of tensors(), on the host, as it lies in the file, but F64 rounded to f32. Throws bad_input
  // (UnsupportedDtype or UnsupportedShape for what this engine cannot hold, BeyondF32).
  Tensor read(const TensorInfo& info) const;
  // Bytes of the file. Throws bad_input when it has become shorter.
  void read_bytes(uint64_t offset, void* to, uint64_t bytes) const { file_.read(offset, to, bytes); }

 private:
  void read_header();
  void validate();

  InputFile file_;
  std::string header_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to write. `fetch` is called once, when its turn comes, so that only one of many device tensors
// needs host memory at a time.
struct TensorSource {
  std::string name;
  DType dtype;
  Shape shape;
  std::function<Tensor()> fetch;  // on the host, of this dtype and shape
};

// Writes atomically (see atomic_file.h). The same tensors and metadata give the same bytes: widest elements
// first, then by name, so that every tensor is aligned. Throws resource, or usage for duplicate names.
void write_safetensors(const std::string& path, std::vector<TensorSource> tensors,
                       const std::map<std::string, std::string>& metadata = {});

// The same, with "__metadata__"[`key`] the 16 lower-case hex digits of the CRC-64 of the whole file, taken
// with '0' in place of these digits.
void write_checksummed_safetensors(const std::string& path, std::vector<TensorSource> tensors,
                                   std::map<std::string, std::string> metadata, const std::string& key);
// Throws bad_input unless the file carries its right checksum under `key`.
void verify_checksum(const SafetensorsFile& file, const std::string& key);

// A name from a file, for messages: in quotes, with control characters escaped, and not too long.
std::string in_quotes(const std::string& name);

}  // namespace plume
