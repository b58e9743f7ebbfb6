#include "models/grad_cam.h"

#include <algorithm>

#include "engine/core/text.h"
#include "models/registry.h"

namespace plume {
namespace {

struct Layer {
  const char *model, *name;
};
constexpr Layer kLayers[] = {
    {"resnet18", "layer4"},           {"mobilenet_v3_small", "features.12"}, {"squeezenet1_0", "features.12"},
    {"squeezenet1_1", "features.12"}, {"efficientnet_v2_s", "features.7"},   {"shufflenet_v2_x0_5", "conv5"},
    {"shufflenet_v2_x1_0", "conv5"}};

// Puts a leaf in the place of a module's output while alive, so that backward() stops there.
class Cut {
 public:
  explicit Cut(Module& module) : module_(module) {
    module.set_forward_hook([this](const Variable& output) {
      activation = Variable(output.value(), true);
      return activation;
    });
  }
  ~Cut() { module_.set_forward_hook({}); }
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;

  Variable activation;

 private:
  Module& module_;
};

std::vector<int> best_classes(const std::vector<float>& logits, int64_t images, int64_t classes) {
  std::vector<int> best;
  for (int64_t n = 0; n < images; ++n) {
    const auto row = logits.begin() + std::ptrdiff_t(n * classes);
    best.push_back(int(std::max_element(row, row + std::ptrdiff_t(classes)) - row));
  }
  return best;
}

// a, dz: [N, h, w, C]
Tensor weighted_planes(const Tensor& a, const Tensor& dz) {
  const int64_t images = a.dim(0), plane = a.dim(1) * a.dim(2), channels = a.dim(3);
  const std::vector<float> values = a.to_vector<float>(), slopes = dz.to_vector<float>();
  Tensor maps = Tensor::empty({images, a.dim(1), a.dim(2)}, DType::f32, Device::cpu);
  for (int64_t n = 0; n < images; ++n) {
    std::vector<double> weights(static_cast<size_t>(channels));
    for (int64_t i = 0; i < plane; ++i)
      for (int64_t k = 0; k < channels; ++k)
        weights[size_t(k)] += double(slopes[size_t((n * plane + i) * channels + k)]) / double(plane);
    for (int64_t i = 0; i < plane; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < channels; ++k)
        sum += weights[size_t(k)] * double(values[size_t((n * plane + i) * channels + k)]);
      maps.data<float>()[n * plane + i] = float(std::max(sum, 0.0));
    }
  }
  return maps;
}

}  // namespace

std::string grad_cam_layer(std::string_view model_name) {
  for (const Layer& layer : kLayers)
    if (model_name == layer.model) return layer.name;
  fail(ErrorKind::usage, "there is no model '{}'; nearest: '{}'", model_name,
       nearest(model_name, model_names()));
}

GradCam grad_cam(Module& model, std::string_view layer, const Tensor& images, std::span<const int> classes) {
  PLUME_CHECK(!model.training(), "grad_cam: the model is in training mode; call eval() first");
  PLUME_CHECK(classes.empty() || int64_t(classes.size()) == images.dim(0),
              "grad_cam: {} classes for {} images", classes.size(), images.dim(0));
  Module* module = model.find(layer);
  PLUME_CHECK(module, "grad_cam: the network has no layer '{}'", layer);
  Cut cut(*module);
  const Variable logits = model(Variable(images));
  PLUME_CHECK(cut.activation.defined() && cut.activation.value().rank() == 4,
              "grad_cam: layer '{}' gives no plane of activations; take a block that holds it", layer);
  PLUME_CHECK(logits.requires_grad(), "grad_cam: the model is fused, which records no gradients");

  const int64_t count = images.dim(0), outputs = logits.dim(1);
  GradCam result{{}, logits.value().to_vector<float>(), {classes.begin(), classes.end()}};
  if (classes.empty()) result.explained = best_classes(result.logits, count, outputs);
  // In evaluation mode no image touches another one's logits, so one backward pass serves all.
  Tensor dz = Tensor::zeros({count, outputs}, DType::f32, Device::cpu);
  for (int64_t n = 0; n < count; ++n) {
    const int c = result.explained[size_t(n)];
    PLUME_CHECK(c >= 0 && c < outputs, "grad_cam: class {} of {}", c, outputs);
    dz.data<float>()[n * outputs + c] = 1;
  }
  backward(logits, dz.to(logits.device()));
  for (const NamedParameter& p : model.parameters()) Variable(p.variable).clear_grad();
  result.maps = weighted_planes(cut.activation.value(), cut.activation.grad());
  return result;
}

}  // namespace plume
