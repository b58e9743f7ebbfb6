#include "engine/serialization/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <tuple>

#include "engine/serialization/crc64.h"
#include "engine/serialization/double_precision.h"
#include "engine/serialization/safetensors_header.h"

namespace plume {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kMaxHeader = 100'000'000;

constexpr std::array kTypes = {
    FormatDType{"BOOL", 8, {}},           FormatDType{"F4", 4, {}},
    FormatDType{"F6_E2M3", 6, {}},        FormatDType{"F6_E3M2", 6, {}},
    FormatDType{"U8", 8, DType::u8},      FormatDType{"I8", 8, {}},
    FormatDType{"F8_E5M2", 8, {}},        FormatDType{"F8_E4M3", 8, {}},
    FormatDType{"F8_E8M0", 8, {}},        FormatDType{"F8_E4M3FNUZ", 8, {}},
    FormatDType{"F8_E5M2FNUZ", 8, {}},    FormatDType{"I16", 16, {}},
    FormatDType{"U16", 16, {}},           FormatDType{"F16", 16, DType::f16},
    FormatDType{"BF16", 16, DType::bf16}, FormatDType{"I32", 32, DType::i32},
    FormatDType{"U32", 32, {}},           FormatDType{"F32", 32, DType::f32},
    FormatDType{"C64", 64, {}},           FormatDType{"F64", 64, {}},
    FormatDType{"I64", 64, DType::i64},   FormatDType{"U64", 64, {}},
};

// What else a file may be whose first eight bytes are not a length.
std::string guess(const char* first) {
  if (std::memcmp(first, "version ", 8) == 0)
    return " (a Git LFS pointer: the file itself was not fetched; see `git lfs pull`)";
  if (std::memcmp(first, "PK\3\4", 4) == 0) return " (a zip archive, as PyTorch writes: not safetensors)";
  if (first[0] == '<') return " (a web page: not safetensors)";
  return "";
}

bool multiply(uint64_t a, uint64_t b, uint64_t& product) { return !__builtin_mul_overflow(a, b, &product); }

}  // namespace

std::span<const FormatDType> format_dtypes() { return kTypes; }

const FormatDType& format_dtype(DType dtype) {
  return *std::find_if(kTypes.begin(), kTypes.end(), [&](const FormatDType& t) { return t.dtype == dtype; });
}

std::string TensorInfo::describe() const {
  std::string text = std::string(type->name) + " [";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool TensorInfo::has_shape(const Shape& expected) const {
  return std::equal(shape.begin(), shape.end(), expected.begin(), expected.end(),
                    [](uint64_t a, int64_t b) { return a == uint64_t(b); });
}

std::string in_quotes(const std::string& name) {
  constexpr size_t kLongest = 200;
  constexpr const char* kHex = "0123456789abcdef";
  std::string text = "'";
  for (const char c : name.substr(0, kLongest)) {
    const auto byte = uint8_t(c);
    if (byte >= 0x20 && byte != 0x7F)
      text += c;
    else
      text += std::string("\\x") + kHex[byte >> 4] + kHex[byte & 15];
  }
  return text + (name.size() > kLongest ? "...'" : "'");
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  read_header();
  validate();
}

void SafetensorsFile::read_header() {
  if (size() < 8)
    fail(ErrorKind::bad_input, "{}: HeaderTooSmall: {} bytes, expected at least 8", path(), size());
  uint64_t length = 0;
  file_.read(0, &length, 8);
  if (length > kMaxHeader) {
    char first[8];
    std::memcpy(first, &length, 8);
    fail(ErrorKind::bad_input, "{}: HeaderTooLarge: header of {} bytes, at most {} are allowed{}", path(),
         length, kMaxHeader, guess(first));
  }
  if (length > size() - 8)
    fail(ErrorKind::bad_input, "{}: InvalidHeaderLength: header of {} bytes in a file of {} bytes", path(),
         length, size());
  header_.resize(length);
  file_.read(8, header_.data(), length);
  SafetensorsHeader header = parse_safetensors_header(header_, path());
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

void SafetensorsFile::validate() {
  const auto refuse = [this](const char* kind, const TensorInfo& t, const std::string& what) {
    fail(ErrorKind::bad_input, "{}: {}: tensor {} {}", path(), kind, in_quotes(t.name), what);
  };
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t next = 0;
  for (const TensorInfo& t : tensors_) {
    if (t.begin != next) refuse("InvalidOffset", t, message("begins at {}, expected {}", t.begin, next));
    if (t.end < t.begin)
      refuse("InvalidOffset", t, message("ends at {}, before its begin {}", t.end, t.begin));
    next = t.end;
    uint64_t bits = 1;
    for (const uint64_t extent : t.shape)
      if (!multiply(bits, extent, bits))
        refuse("ValidationOverflow", t, "has too many elements: " + t.describe());
    if (!multiply(bits, uint64_t(t.type->bits), bits))
      refuse("ValidationOverflow", t, "has too many bits: " + t.describe());
    if (bits % 8 != 0)
      refuse("MisalignedSlice", t, message("has {} bits, not whole bytes: {}", bits, t.describe()));
    if (t.end - t.begin != bits / 8)
      refuse("TensorInvalidInfo", t,
             message("has {} bytes, expected {} for {}", t.end - t.begin, bits / 8, t.describe()));
  }
  const uint64_t stored = size() - 8 - header_.size();
  if (next != stored)
    fail(ErrorKind::bad_input, "{}: MetadataIncompleteBuffer: {} bytes of tensors, expected {}", path(),
         stored, next);
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
}

const TensorInfo* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Tensor SafetensorsFile::read(const TensorInfo& info) const {
  const std::optional<DType> dtype = loaded_dtype(*info.type);
  if (!dtype)
    fail(ErrorKind::bad_input, "{}: UnsupportedDtype: tensor {} is {}", path(), in_quotes(info.name),
         info.describe());
  int64_t extents[Shape::kMaxRank] = {};
  for (size_t i = 0; i < info.shape.size(); ++i) {
    if (info.shape[i] > uint64_t{1} << 62)
      fail(ErrorKind::bad_input, "{}: UnsupportedShape: tensor {} is {}", path(), in_quotes(info.name),
           info.describe());
    extents[i] = int64_t(info.shape[i]);
  }
  Shape shape;
  try {
    shape = Shape(extents, int(info.shape.size()));
  } catch (const Error& error) {
    fail(ErrorKind::bad_input, "{}: UnsupportedShape: tensor {}: {}", path(), in_quotes(info.name),
         error.what());
  }
  Tensor tensor = Tensor::empty(shape, *dtype, Device::cpu, "file");
  const uint64_t begin = 8 + header_.size() + info.begin;
  if (is_f64(*info.type))
    round_to_f32(tensor, message("{}: tensor {}", path(), in_quotes(info.name)),
                 [&](uint64_t first, void* to, uint64_t count) {
                   file_.read(begin + first * sizeof(double), to, count * sizeof(double));
                 });
  else
    file_.read(begin, tensor.raw(), tensor.bytes());
  return tensor;
}

}  // namespace plume
