// Reading and mapping files whose size is checked before anything is allocated for them.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace plume {

// The bytes of a regular file of exactly this size. Throws bad_input, naming the path, what was found and
// what was expected: nothing there, a folder, pipe or device (not waited for), an empty file, another size,
// with the kind of content where it is a familiar one (gzip, zip, HTML, Git LFS pointer, pickle).
// `expected` names the content: "CIFAR-10 records".
std::vector<uint8_t> read_sized_file(const std::string& path, int64_t size, const std::string& expected);

// The same for a regular, non-empty file of at most `most` bytes. `expected`: "a JPEG or PNG image".
std::vector<uint8_t> read_small_file(const std::string& path, int64_t most, const std::string& expected);

// A regular, non-empty file's bytes without a copy, for as long as `owner` lives.
struct MappedFile {
  std::span<const uint8_t> bytes;
  std::shared_ptr<const void> owner;
};
// Throws as above, resource where the file cannot be mapped.
MappedFile map_file(const std::string& path, const std::string& expected);

// What the first bytes say the content is, for messages; null when they are not familiar.
const char* familiar_content(std::span<const uint8_t> bytes);

}  // namespace plume
