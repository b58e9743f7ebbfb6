// Where in an image a network sees a class: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "engine/modules/module.h"

namespace plume {

// The module whose output is a network's last convolutional activation, by the network's name in the
// registry:
// "layer4" of resnet18. Throws usage for an unknown network.
std::string grad_cam_layer(std::string_view model_name);

struct GradCam {
  Tensor maps;                // [N, h, w] f32 on the cpu, not negative, at the layer's resolution; not scaled
  std::vector<float> logits;  // [N, classes]
  std::vector<int> explained;  // [N] the class of each map
};

// images [N, H, W, 3]. For each image and class c, with A the output of module `layer` and z the logits:
//   map(h, w) = max(0, sum_k a_k A(h, w, k)),   a_k = mean over (h, w) of dz_c / dA(h, w, k).
// `classes`: one per image, or none for the class with the highest logit. The network must be in evaluation
// mode and not fused: a fused one records no gradients. Gradients of parameters are cleared. Throws usage for
// a layer that is not there, is not called or has no plane, and for a class that is not there.
GradCam grad_cam(Module& model, std::string_view layer, const Tensor& images,
                 std::span<const int> classes = {});

}  // namespace plume
