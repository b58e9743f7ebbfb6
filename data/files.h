// Reading files of a known size.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plume::data {

// The bytes of a regular file of exactly this size. Throws bad_input, naming the path, what was found and
// what was expected: nothing there, a folder, pipe or device (not waited for), an empty file, another size,
// with the kind of content where it is a familiar one (gzip, zip, HTML, Git LFS pointer, pickle).
// `expected` names the content: "CIFAR-10 records".
std::vector<uint8_t> read_sized_file(const std::string& path, int64_t size, const std::string& expected);

}  // namespace plume::data
