// Networks and batches from files.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/modules/module.h"
#include "engine/serialization/fit_weights.h"
#include "models/registry.h"
#include "tools/cli/flags.h"

namespace plume::tools {

// --weights-key and --ignore, which every program has that reads weights.
class WeightsFlags {
 public:
  explicit WeightsFlags(Flags& flags);
  FitOptions options() const;

 private:
  std::string key_;
  std::vector<std::string> ignore_;
};

// "a,b" -> "a", "b".
std::vector<std::string> split_patterns(const std::string& text);

// The prefix of the last layer's parameters: "fc.", "classifier.3.".
std::string head_prefix(Module& model);

// The number of classes that the file's last layer tells apart, by its bias. Throws bad_input.
int count_classes(const Weights& weights, const WeightTensor& bias);

// A network with the weights of a file (torchvision's names and layout; safetensors or PyTorch's own files,
// as fit_weights.h takes them; what was done is said on stderr). The number of classes is what the file's
// last layer has. Throws bad_input, naming the file and what does not fit.
std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const Weights& weights,
                                           FitOptions options = {});
std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const std::string& path,
                                           const FitOptions& options = {});

DType parse_precision(std::string_view text);  // "f32", "bf16", "f16"; throws usage

// [N, C, H, W] f32 -> [N, H, W, C], or back.
Tensor nchw_to_nhwc(const Tensor& x);
Tensor nhwc_to_nchw(const Tensor& x);

}  // namespace plume::tools
