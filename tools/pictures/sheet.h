// Many images with captions as one.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/images/image.h"

namespace plume::tools {

struct CaptionedImage {
  data::Image image;
  std::vector<std::string> caption;  // lines; what is too long for the image is cut off
};

// Row by row, on a dark ground. Images, which must have one size, are enlarged by a whole factor until their
// shorter side has `least_side` pixels. Captions are in capitals; characters without a glyph stay blank.
data::Image contact_sheet(const std::vector<CaptionedImage>& images, int columns, int least_side = 96);

}  // namespace plume::tools
