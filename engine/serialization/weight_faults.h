// Everything that does not fit, in one line that can be read.
#pragma once
#include <map>
#include <string>
#include <vector>

namespace plume {

// brief_list() of names from files, which may be long; `names` may be the first of `count`.
std::string some_names(const std::vector<std::string>& names, size_t count = 0);

class WeightFaults {
 public:
  // `kind`: MissingTensor, UnexpectedTensor, ShapeMismatch or UnsupportedDtype.
  void add(const char* kind, const std::string& what);
  bool any() const { return !kinds_.empty(); }
  // Throws bad_input: "PATH: does not fit the model: MissingTensor (120): 'conv1.weight' and 119 more; HINT".
  // Of all classes together at most kBriefNames are named, of each at least one.
  [[noreturn]] void fail(const std::string& path, const std::string& hint,
                         const std::string& verdict = "does not fit the model") const;

 private:
  std::map<std::string, std::pair<size_t, std::vector<std::string>>> kinds_;  // count and the first of them
};

}  // namespace plume
