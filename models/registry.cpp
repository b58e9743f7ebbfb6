#include "models/registry.h"

#include "engine/core/text.h"
#include "models/efficientnet_v2_s.h"
#include "models/mobilenet_v3_small.h"
#include "models/resnet18.h"
#include "models/shufflenet_v2.h"
#include "models/squeezenet.h"

namespace plume {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Module> (*make)(const ModelOptions&);
};
constexpr Entry kModels[] = {{"resnet18", make_resnet18},
                             {"mobilenet_v3_small", make_mobilenet_v3_small},
                             {"squeezenet1_0", make_squeezenet1_0},
                             {"squeezenet1_1", make_squeezenet1_1},
                             {"efficientnet_v2_s", make_efficientnet_v2_s},
                             {"shufflenet_v2_x0_5", make_shufflenet_v2_x0_5},
                             {"shufflenet_v2_x1_0", make_shufflenet_v2_x1_0}};

// Keeps the draws of initialisation apart from every other use of the same seed.
constexpr uint64_t kInitialisationStream = 1;

}  // namespace

Stem parse_stem(std::string_view text) {
  if (text == "imagenet") return Stem::imagenet;
  if (text == "cifar") return Stem::cifar;
  fail(ErrorKind::usage, "stem '{}' is not one of imagenet, cifar", text);
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Entry& e : kModels) names.emplace_back(e.name);
  return names;
}

std::unique_ptr<Module> make_model(std::string_view name, const ModelOptions& options) {
  PLUME_CHECK(options.num_classes > 0, "model: {} classes", options.num_classes);
  for (const Entry& e : kModels) {
    if (name != e.name) continue;
    std::unique_ptr<Module> model = e.make(options);
    if (options.initialize) {
      RandomSequence random(options.seed, kInitialisationStream);
      model->initialize(random);
    }
    return model;
  }
  fail(ErrorKind::usage, "there is no model '{}'; nearest: '{}'", name, nearest(name, model_names()));
}

}  // namespace plume
