// Images to PNG.
#pragma once
#include <string>

#include "data/images/image.h"

namespace plume::data {

// The bytes of an 8-bit RGB file, for write_file_atomically or a data URI.
std::string encode_png(const Image& image);

}  // namespace plume::data
