#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/files/atomic_file.h"
#include "engine/serialization/crc64.h"
#include "engine/serialization/safetensors.h"

namespace plume {
namespace {

using Json = nlohmann::ordered_json;

const std::string kNoDigits(16, '0');

std::string header_text(const std::vector<TensorSource>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorSource& t : tensors) {
    const uint64_t end = offset + uint64_t(t.shape.elements()) * size_of(t.dtype);
    Json& entry = header[t.name];
    entry["dtype"] = format_dtype(t.dtype).name;
    entry["shape"] = std::vector<int64_t>(t.shape.begin(), t.shape.end());
    entry["data_offsets"] = {offset, end};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

// Where the digits begin in the header text. A tensor's name cannot hold the pattern: its quotes are escaped.
size_t find_digits(const std::string& header, const std::string& key) {
  const std::string pattern = '"' + key + "\":\"";
  const size_t found = header.find(pattern);
  const size_t digits = found + pattern.size();
  return found == std::string::npos || header.size() - digits < kNoDigits.size() ? std::string::npos : digits;
}

std::string hex(uint64_t value) {
  std::string digits = kNoDigits;
  for (size_t i = digits.size(); i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  return digits;
}

void write(const std::string& path, std::vector<TensorSource>& tensors,
           const std::map<std::string, std::string>& metadata, const std::string* checksum_key) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSource& a, const TensorSource& b) {
    return size_of(a.dtype) != size_of(b.dtype) ? size_of(a.dtype) > size_of(b.dtype) : a.name < b.name;
  });
  std::vector<std::string> names;
  uint64_t bytes = 0;
  for (const TensorSource& t : tensors) {
    names.push_back(t.name);
    bytes += uint64_t(t.shape.elements()) * size_of(t.dtype);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  PLUME_CHECK(twice == names.end(), "{}: two tensors are named {}", path, in_quotes(*twice));
  PLUME_CHECK(!std::binary_search(names.begin(), names.end(), "__metadata__"),
              "{}: a tensor is named '__metadata__'", path);

  const std::string header = header_text(tensors, metadata);
  const uint64_t length = header.size();
  AtomicFile file(path, 8 + length + bytes);
  Crc64 crc;
  const auto put = [&](const void* data, size_t size) {
    file.write(data, size);
    if (checksum_key != nullptr) crc.add(data, size);
  };
  put(&length, 8);
  put(header.data(), header.size());
  for (const TensorSource& t : tensors) {
    const Tensor tensor = t.fetch();
    PLUME_CHECK(tensor.dtype() == t.dtype && tensor.shape() == t.shape && is_host(tensor.device()),
                "{}: tensor {} is {}, expected {} {}", path, in_quotes(t.name), tensor, t.dtype, t.shape);
    put(tensor.raw(), tensor.bytes());
  }
  if (checksum_key != nullptr) {
    const std::string digits = hex(crc.value());
    file.overwrite(8 + find_digits(header, *checksum_key), digits.data(), digits.size());
  }
  file.commit();
}

}  // namespace

void write_safetensors(const std::string& path, std::vector<TensorSource> tensors,
                       const std::map<std::string, std::string>& metadata) {
  write(path, tensors, metadata, nullptr);
}

void write_checksummed_safetensors(const std::string& path, std::vector<TensorSource> tensors,
                                   std::map<std::string, std::string> metadata, const std::string& key) {
  metadata[key] = kNoDigits;
  write(path, tensors, metadata, &key);
}

void verify_checksum(const SafetensorsFile& file, const std::string& key) {
  const auto stored = file.metadata().find(key);
  const size_t digits = find_digits(file.header(), key);
  if (stored == file.metadata().end() || digits == std::string::npos ||
      stored->second != file.header().substr(digits, kNoDigits.size()))
    fail(ErrorKind::bad_input, "{}: has no checksum", file.path());

  Crc64 crc;
  const uint64_t length = file.header().size();
  std::string header = file.header();
  header.replace(digits, kNoDigits.size(), kNoDigits);
  crc.add(&length, 8);
  crc.add(header.data(), header.size());
  std::vector<char> buffer(std::min<uint64_t>(uint64_t{1} << 20, file.size() - 8 - length));
  for (uint64_t offset = 8 + length; offset < file.size();) {
    const uint64_t part = std::min<uint64_t>(buffer.size(), file.size() - offset);
    file.read_bytes(offset, buffer.data(), part);
    crc.add(buffer.data(), part);
    offset += part;
  }
  if (hex(crc.value()) != stored->second)
    fail(ErrorKind::bad_input, "{}: is damaged: its checksum is {}, its content has {}", file.path(),
         stored->second, hex(crc.value()));
}

}  // namespace plume
