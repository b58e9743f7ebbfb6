// A training run on the disk: one safetensors file with tensors, a text (JSON) and a checksum over all of it.
//
// The module's state has its plain names, so that the file is also a state dictionary; what else a run needs
// (velocities, ...) is under kOptimizerPrefix. "__metadata__" holds plume.format, plume.state and
// plume.checksum, and what else is said `about` the weights.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/serialization/state_dict.h"

namespace plume {

inline constexpr const char* kOptimizerPrefix = "optimizer.";

// Written atomically. Throws resource.
void save_checkpoint(const std::string& path, const std::string& state, const std::vector<StateGroup>& groups,
                     const std::map<std::string, std::string>& about = {});

class CheckpointFile {
 public:
  // Reads and verifies the whole file. Throws bad_input, naming the file and the reason, when it is damaged
  // in any way, is no checkpoint, or was written by a newer format.
  explicit CheckpointFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::string& state() const { return state_; }
  const SafetensorsFile& file() const { return file_; }
  // See load_state(): all or nothing.
  void load(const std::vector<StateGroup>& groups, const std::string& ignored_prefix = "") const;

 private:
  SafetensorsFile file_;
  std::string state_;
};

}  // namespace plume
