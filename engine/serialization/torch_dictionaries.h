// Where in a checkpoint the dictionaries of tensors are.
#pragma once
#include <string>
#include <vector>

#include "engine/serialization/pickle.h"

namespace plume {

struct FoundDictionary {
  std::string key;  // "state_dict", "model_ema.module"; empty: the top
  PickleRef ref = 0;
};

// From the top down, each dictionary once. See TorchFile::Dictionary for which count. A dictionary is a dict
// or an object of a class that is one.
std::vector<FoundDictionary> find_dictionaries(const Pickle& pickle);

}  // namespace plume
