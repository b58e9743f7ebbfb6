// Networks and batches from files.
#pragma once
#include <memory>
#include <string>

#include "engine/modules/module.h"
#include "engine/serialization/weights.h"
#include "models/registry.h"

namespace plume::tools {

// A network with the weights of a state dictionary (torchvision's names and layout; safetensors or PyTorch's
// own files). The number of classes is what the file's last layer has. Throws bad_input, naming the file and
// all that does not fit.
std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const Weights& weights);
std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const std::string& path);

DType parse_precision(std::string_view text);  // "f32", "bf16", "f16"; throws usage

// [N, C, H, W] f32 -> [N, H, W, C], or back.
Tensor nchw_to_nhwc(const Tensor& x);
Tensor nhwc_to_nchw(const Tensor& x);

}  // namespace plume::tools
