// Data sets by name.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "data/synthetic.h"

namespace plume::data {

// "synthetic" (the embedded set), "cifar10", "cifar100".
const std::vector<std::string>& dataset_names();

// `dir` is the folder of the files; the embedded set has none and ignores it. Throws usage on an unknown name
// (with the nearest one) or a missing dir, bad_input on missing or damaged files.
std::shared_ptr<const Dataset> open_dataset(std::string_view name, const std::string& dir, Split split,
                                            const SyntheticParams& synthetic = {});

}  // namespace plume::data
