// A heat map drawn over an image.
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace plume::tools {

// `map` [map_height, map_width], not negative, is brought to the image's size (bilinear, pixel centres
// aligned) and laid over it in colours from blue (nothing) to red (its largest value); where it is 0 the
// image shows through. Small images are enlarged by a whole factor until their shorter side has `least_side`
// pixels.
data::Image overlay_heat(const data::Image& image, std::span<const float> map, int map_height, int map_width,
                         int least_side = 128);

data::Image rotated180(const data::Image& image);

// Where the overlay of each image goes: `target` itself if it ends in .png, for one image; else <image>.png
// in the folder `target`, which is made. Empty for an empty target. Throws usage where two images would share
// a file or one is an image, resource where the folder cannot be made.
std::map<std::string, std::string> overlay_paths(const std::string& target,
                                                 const std::vector<std::string>& images);

}  // namespace plume::tools
