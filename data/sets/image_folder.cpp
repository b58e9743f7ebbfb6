#include <algorithm>
#include <cctype>
#include <filesystem>

#include "data/images/image.h"
#include "data/sets/folder_walk.h"
#include "data/sets/image_source.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;

constexpr Split kSplits[] = {Split::train, Split::val, Split::test};

// What people call a split's folder, in upper or lower case.
const std::vector<std::string>& folder_names(Split split) {
  static const std::vector<std::string> train{"train", "training"}, val{"val", "valid", "validation"},
      test{"test", "testing"};
  return split == Split::train ? train : split == Split::val ? val : test;
}

bool is_folder_of(const std::string& name, Split split) {
  std::string lower = name;
  for (char& c : lower) c = char(std::tolower(static_cast<unsigned char>(c)));
  const std::vector<std::string>& known = folder_names(split);
  return std::find(known.begin(), known.end(), lower) != known.end();
}

// The data's folder and what is in it, listed once.
class Root {
 public:
  explicit Root(const std::string& dir) : dir_(dir) {
    std::error_code ignored;
    if (!fs::is_directory(dir, ignored))
      fail(ErrorKind::bad_input, "{}: {}, expected a folder with train, val or test", printable(dir),
           fs::exists(dir, ignored) ? "is not a folder" : "no such folder");
    for (const std::string& name : names_in(dir))
      // A link that leads nowhere is complained about when the folder is wanted.
      if (!fs::is_regular_file(dir + "/" + name, ignored)) folders_.push_back(name);
  }

  // As it is called here; empty when it is not there.
  std::string folder(Split split) const {
    std::vector<std::string> found;
    for (const std::string& name : folders_)
      if (is_folder_of(name, split)) found.push_back(name);
    if (found.size() > 1)
      fail(ErrorKind::bad_input, "{}: has {}: which one is the {} split? rename the others", printable(dir_),
           brief_list(found), name(split));
    return found.empty() ? "" : found.front();
  }
  bool has(Split split) const {
    return std::any_of(folders_.begin(), folders_.end(),
                       [&](const std::string& name) { return is_folder_of(name, split); });
  }
  const std::vector<std::string>& folders() const { return folders_; }

 private:
  const std::string dir_;
  std::vector<std::string> folders_;
};

// The images of one split, class by class.
class Listing {
 public:
  // labels_from: what has the class names, for messages.
  Listing(ImageSource& source, const std::string& folder, const std::string& labels_from)
      : source_(source), folder_(folder), labels_from_(labels_from), walk_(source.root, left_out_) {}

  void run() {
    const std::string path = source_.root + "/" + folder_;
    std::vector<std::string> unknown;
    for (const std::string& name : folders_in(path))
      if (!add_class(name)) unknown.push_back(name);
    if (!unknown.empty())
      fail(ErrorKind::bad_input, "{}: has {} that {} not: {}; remove or rename {}", printable(path),
           unknown.size() == 1 ? "a class" : message("{} classes", unknown.size()), labels_from_,
           brief_list(unknown), unknown.size() == 1 ? "it" : "them");
    std::error_code ignored;
    for (const std::string& name : names_in(path))
      if (fs::is_directory(path + "/" + name, ignored))
        continue;
      else if (is_readable_name(name))
        left_out_.add("outside class folders");
      else
        left_out_.add_file(name);
    source_.info.left_out = left_out_.list();
    if (source_.files.empty()) refuse_empty(path);
    note_missing(path);
  }

 private:
  // False where the class is not known and has images.
  bool add_class(const std::string& name) {
    const std::vector<std::string>& names = source_.info.class_names;
    const auto place = std::find(names.begin(), names.end(), name);
    const std::vector<std::string> paths = walk_.images(folder_ + "/" + name);
    if (place == names.end()) return paths.empty();
    if (paths.empty() && labels_from_.empty()) {
      source_.info.left_out = left_out_.list();
      refuse_empty(source_.root + "/" + folder_ + "/" + name);
    }
    const auto label = int32_t(place - names.begin());
    seen_.resize(names.size());
    seen_[size_t(label)] = !paths.empty();
    for (const std::string& path : paths) source_.files.push_back({path, label});
    return true;
  }

  [[noreturn]] void refuse_empty(const std::string& path) const {
    std::string known;
    for (const std::string_view extension : readable_extensions())
      known.append(known.empty() ? "*" : ", *").append(extension);
    const std::string others = to_line(source_.info.left_out);
    fail(ErrorKind::bad_input, "{}: has no images, expected {}{}", printable(path), known,
         others.empty() ? "" : "; left out: " + others);
  }

  void note_missing(const std::string& path) {
    const std::vector<std::string>& names = source_.info.class_names;
    std::vector<std::string> missing;
    for (size_t label = 0; label < names.size(); ++label)
      if (!seen_[label]) missing.push_back(names[label]);
    if (!missing.empty())
      source_.notes.push_back(message("{}: has no images of {}", printable(path), brief_list(missing)));
  }

  ImageSource& source_;
  const std::string folder_;
  const std::string labels_from_;  // empty: its own folders, so that every class must have images
  LeftOutCounts left_out_;
  FolderWalk walk_;
  std::vector<bool> seen_;
};

}  // namespace

DatasetInfo image_folder_traits() {
  return {.name = "imagefolder", .statistics = kImageNetStatistics, .any_size = true};
}

std::vector<Split> image_folder_splits(const std::string& dir) {
  const Root root(dir);
  std::vector<Split> there;
  for (const Split split : kSplits)
    if (root.has(split)) there.push_back(split);
  return there;
}

ImageSource list_image_folder(const std::string& dir, Split split, const std::vector<std::string>& classes) {
  const Root root(dir);
  const std::string folder = root.folder(split);
  if (folder.empty())
    fail(ErrorKind::bad_input, "{}: has no folder {}; it has {}", printable(dir), name(split),
         root.folders().empty() ? "no folders" : brief_list(root.folders()));
  ImageSource source;
  source.info = image_folder_traits();
  source.info.split = split;
  source.info.folder = dir + "/" + folder;
  source.root = dir;
  const std::string train = root.folder(Split::train);
  const std::string& labels_from = train.empty() ? folder : train;
  source.info.class_names = classes.empty() ? folders_in(dir + "/" + labels_from) : classes;
  if (source.info.class_names.empty())
    fail(ErrorKind::bad_input, "{}/{}: has no folders, expected one per class", printable(dir), labels_from);
  Listing(source, folder,
          !classes.empty()        ? "the network has"
          : labels_from != folder ? message("{}/{} has", printable(dir), labels_from)
                                  : "")
      .run();
  alternate_classes(source.files);
  return source;
}

}  // namespace plume::data
