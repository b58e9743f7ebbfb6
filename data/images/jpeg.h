// JPEG pixels as libjpeg-turbo gives them, on which the numbers of pretrained networks rest.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"

namespace plume::data {

// Byte for byte what libjpeg-turbo's defaults give (accurate integer transform, smooth upsampling of
// colours). The bytes are a JPEG whose segments decode_image() has looked at. Throws bad_input, naming
// `name`, beyond kMostImagePixels and where decoding fails.
Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);

}  // namespace plume::data
