#include "data/registry.h"

#include "data/cifar.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = {"synthetic", "cifar10", "cifar100"};
  return names;
}

std::shared_ptr<const Dataset> open_dataset(std::string_view name, const std::string& dir, Split split,
                                            const SyntheticParams& synthetic) {
  if (name == "synthetic") return make_synthetic(split, synthetic);
  for (const CifarFormat* format : {&cifar10_format(), &cifar100_format()})
    if (name == format->name) {
      PLUME_CHECK(!dir.empty(), "data set {}: the folder of its files is not given", name);
      return load_cifar(*format, dir, split);
    }
  fail(ErrorKind::usage, "data set '{}' is unknown, did you mean '{}'?", name,
       nearest(name, dataset_names()));
}

}  // namespace plume::data
