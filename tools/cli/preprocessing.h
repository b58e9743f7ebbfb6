// What a network's weights say about its inputs and outputs: how images are prepared, what the classes are
// called, what it was trained on. Made here for every program; travels with the weights, in "__metadata__".
#pragma once
#include <array>
#include <map>
#include <string>
#include <vector>

#include "data/preprocessing.h"
#include "engine/serialization/weights.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_type.h"

namespace plume::tools {

inline constexpr double kLeastStd = 1e-6;

struct NetworkDescription {
  data::Preprocessing preprocessing;
  std::vector<std::string> class_names;  // empty: not known
  std::string data;                      // the data set that it was trained on; empty: not known
  bool stated = false;                   // by the weights themselves
  std::string origin;                    // for people: "as the checkpoint says"
};

// What torchvision's weights of the network expect.
data::Preprocessing torchvision_preprocessing(const std::string& model);

// What "__metadata__" of the weights says:
//   resize         of the shorter side; or squash "1": whole images become as large as the crop
//   crop           "224", or height and width: "48x32"
//   interpolation  "bilinear", "bicubic"
//   mean, std      "0.485,0.456,0.406"
//   rotate180      "0", "1"
//   labels         the classes' names, one per line; \n, \\ and \xE9 stand for a line feed, a backslash and
//                  a byte that is not UTF-8
//   data           name of the data set
// on top of torchvision_preprocessing(). Where it says nothing of images and `data` has images of one size,
// they are taken to be as that set's are. Throws bad_input, naming `path` and the key.
NetworkDescription describe_network(const std::string& path,
                                    const std::map<std::string, std::string>& metadata,
                                    const std::string& model, const std::string& data = "");
// Throws bad_input, naming `path`, where a network of so many classes has names for another number.
void check_class_names(const std::string& path, const NetworkDescription& network, int64_t classes);
// And back.
std::map<std::string, std::string> to_metadata(const NetworkDescription& network);
// Whether there is something of the above in it that says how images are prepared.
bool describes_images(const std::map<std::string, std::string>& metadata);

// "shorter side 256, crop 224, bilinear, mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
std::string to_line(const data::Preprocessing& how);
// "shorter side 256, ... (as the checkpoint says)"
std::string to_line(const NetworkDescription& network);
Json to_json(const data::Preprocessing& how);

// The flags that overrule what the weights say, in every program that has them.
class PreprocessingFlags {
 public:
  explicit PreprocessingFlags(Flags& flags);
  // Those that were given: "--crop", ...
  std::vector<std::string> given() const;
  bool as_they_are() const;  // --image-size 0
  // Throws usage on values and on flags that contradict each other; the origin then says what was overruled.
  void overrule(NetworkDescription& network) const;

 private:
  Flags& flags_;
  int64_t image_size_ = 0, resize_ = 256, crop_ = 224;
  bool squash_ = false;
  std::string interpolation_ = "bilinear", mean_, std_;
};

// Three numbers with commas between them; `what` is for messages. Throws usage.
std::array<float, data::kChannels> parse_channels(const std::string& what, const std::string& text,
                                                  double least);

// The names of a network's classes, one per line of a file. Throws bad_input unless there are `classes`.
std::vector<std::string> read_labels(const std::string& path, int64_t classes);

}  // namespace plume::tools
