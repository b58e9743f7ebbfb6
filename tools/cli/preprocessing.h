// What happens to an image before a network sees it, as the network's weights want it.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/images/resize.h"
#include "engine/serialization/weights.h"

namespace plume::tools {

inline constexpr int64_t kMostSide = 4096;  // of resize and crop
inline constexpr double kLeastStd = 1e-6;

struct Preprocessing {
  int64_t resize = 256;  // of the shorter side
  int64_t crop = 224;    // from the middle
  data::Interpolation interpolation = data::Interpolation::bilinear;
  data::ChannelStatistics statistics = data::kImageNetStatistics;
  bool rotate180 = false;  // after the crop
};

// What torchvision's weights of the network expect.
Preprocessing torchvision_preprocessing(const std::string& model);
// The above, changed by what "__metadata__" of the weights says under resize, crop, interpolation, mean, std
// ("0.485,0.456,0.406") and rotate180 ("0", "1"). Throws bad_input, naming the file and the key.
Preprocessing preprocessing_of(const Weights& weights, const std::string& model);

// Three numbers with commas between them; `what` is for messages. Throws usage.
std::array<float, data::kChannels> parse_channels(const std::string& what, const std::string& text,
                                                  double least);

// -> [crop, crop, 3]: (x / 255 - mean) / std.
void preprocess(const data::Image& image, const Preprocessing& how, float* out);
// And back: what the network sees, as an image.
data::Image as_seen(const float* prepared, const Preprocessing& how);

// The names of a network's classes, one per line of a file. Throws bad_input unless there are `classes`.
std::vector<std::string> read_labels(const std::string& path, int64_t classes);

}  // namespace plume::tools
