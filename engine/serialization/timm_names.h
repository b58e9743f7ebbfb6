// Weights of timm (PyTorch Image Models, https://github.com/huggingface/pytorch-image-models) under
// torchvision's names.
//
// Supported, each with every tensor's shape checked:
//   resnet18               the same definition and the same names
//   mobilenetv3_small_100  mobilenet_v3_small
//   efficientnetv2_s       efficientnet_v2_s
// The latter two have batch norms with eps 1e-5, torchvision's have 1e-3. Since
//   (x - mean) / sqrt(var + 1e-5) = (x - mean) / sqrt(var + 1e-3) * sqrt((var + 1e-3) / (var + 1e-5)),
// the last factor goes into the batch norm's weight: evaluation is the same but for the rounding of that
// weight. Training goes on with torchvision's eps. MobileNetV3's head is a 1x1 convolution on one pixel
// there, and a linear layer with the same weights here.
//
// Refused: tf_mobilenetv3_small_100 and tf_efficientnetv2_s, which pad as TensorFlow does (one more pixel at
// the right and the bottom) and so are other networks although their files cannot be told apart from those
// above; efficientnetv2_rw_s, which has other widths (272 and 1792); everything else.
#pragma once
#include <string>
#include <vector>

#include "engine/serialization/weights.h"

namespace plume {

struct TimmConversion {
  struct Change {
    std::string from, to;
    std::string how;  // "", "reshaped from [1024, 576, 1, 1]", "scaled for eps 1e-3"
  };
  std::string model;  // torchvision's name
  std::vector<WeightTensor> tensors;
  std::vector<Change> changes;  // whatever is not as it was
};

// Names that only timm's MobileNetV3 and EfficientNet have.
bool has_timm_names(const std::vector<WeightTensor>& tensors);

// What timm's model consists of, for fit_weights(): names and shapes, 0 for the number of classes; nothing
// where they are torchvision's. The classifier is "classifier.". Throws usage as from_timm() does.
std::vector<TensorSource> timm_sources(const std::string& model);

// `model`: timm's name, with or without the tag of the weights (".lamb_in1k"). The number of classes is free,
// and the classifier may be missing. Throws usage for a model that is not supported, saying why, and
// bad_input naming `path` and everything that is missing, unexpected or of another shape.
TimmConversion from_timm(const std::string& path, const std::vector<WeightTensor>& tensors,
                         const std::string& model);

}  // namespace plume
