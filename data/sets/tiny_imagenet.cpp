#include <algorithm>
#include <cctype>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include "data/sets/folder_walk.h"
#include "data/sets/image_source.h"
#include "engine/core/error.h"
#include "engine/files/read_file.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostText = 16 << 20;  // bytes of a list
constexpr size_t kMostClasses = 10'000;
constexpr int kTinySide = 64;

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// A spreadsheet puts quotes around a field and doubles those in it.
std::string unquoted(std::string_view field) {
  if (field.size() < 2 || field.front() != '"' || field.back() != '"') return std::string(field);
  std::string text;
  field = field.substr(1, field.size() - 2);
  for (size_t i = 0; i < field.size(); ++i) {
    text += field[i];
    if (field[i] == '"' && i + 1 < field.size() && field[i + 1] == '"') ++i;
  }
  return text;
}

// Calls line(number, fields) for each line that is not empty, fields being separated by tabs.
void for_each_line(const std::string& path, const std::string& expected,
                   const std::function<void(int64_t, const std::vector<std::string>&)>& line) {
  const std::vector<uint8_t> bytes = read_small_file(path, kMostText, expected);
  if (const char* content = familiar_content(bytes))
    fail(ErrorKind::bad_input, "{}: holds {}, expected {}", path, content, expected);
  std::string_view left(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (left.starts_with(kByteOrderMark)) left.remove_prefix(kByteOrderMark.size());
  for (int64_t number = 1; !left.empty(); ++number) {
    const size_t end = std::min(left.find('\n'), left.size());
    std::string_view text = left.substr(0, end);
    left.remove_prefix(std::min(end + 1, left.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    for (const char c : text)
      if (static_cast<unsigned char>(c) < ' ' && c != '\t')
        fail(ErrorKind::bad_input, "{}: line {}: has a control character ({})", path, number, int(c));
    std::vector<std::string> fields;
    for (size_t at = 0; at <= text.size();) {
      const size_t tab = std::min(text.find('\t', at), text.size());
      fields.push_back(unquoted(text.substr(at, tab - at)));
      at = tab + 1;
    }
    line(number, fields);
  }
}

bool is_wnid(const std::string& text) {
  return text.size() > 1 && text[0] == 'n' &&
         std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string find_root(const std::string& dir) {
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored))
    fail(ErrorKind::bad_input, "{}: {}, expected the folder of Tiny ImageNet", dir,
         fs::exists(dir, ignored) ? "is not a folder" : "no such folder");
  const std::string nested = dir + "/tiny-imagenet-200";
  for (const std::string& root : {dir, nested})
    if (fs::exists(root + "/wnids.txt", ignored)) return root;
  fail(ErrorKind::bad_input, "{}: no Tiny ImageNet here: neither it nor {} has wnids.txt{}", dir, nested,
       fs::exists(nested + ".zip", ignored) ? "; the archive in it must be unpacked first" : "");
}

std::map<std::string, int32_t> read_labels(const std::string& path) {
  std::map<std::string, int32_t> labels;
  for_each_line(path, "a list of WordNet ids", [&](int64_t number, const std::vector<std::string>& fields) {
    if (fields.size() != 1 || !is_wnid(fields[0]))
      fail(ErrorKind::bad_input, "{}: line {}: '{}', expected a WordNet id like n01443537", path, number,
           fields[0]);
    if (labels.size() == kMostClasses)
      fail(ErrorKind::bad_input, "{}: lists more than {} ids", path, kMostClasses);
    if (!labels.emplace(fields[0], int32_t(labels.size())).second)
      fail(ErrorKind::bad_input, "{}: line {}: {} is listed twice", path, number, fields[0]);
  });
  if (labels.empty()) fail(ErrorKind::bad_input, "{}: lists no ids", path);
  return labels;
}

std::vector<std::string> read_class_names(const std::string& path,
                                          const std::map<std::string, int32_t>& labels) {
  std::vector<std::string> names(labels.size());
  for_each_line(path, "names of WordNet ids", [&](int64_t number, const std::vector<std::string>& fields) {
    if (fields.size() < 2)
      fail(ErrorKind::bad_input, "{}: line {}: '{}', expected an id, a tab and names", path, number,
           fields[0]);
    if (const auto found = labels.find(fields[0]); found != labels.end())
      names[size_t(found->second)] = fields[1].substr(0, fields[1].find(','));
  });
  for (const auto& [wnid, label] : labels)
    if (names[size_t(label)].empty()) fail(ErrorKind::bad_input, "{}: has no name for {}", path, wnid);
  return names;
}

void list_train(const std::map<std::string, int32_t>& labels, ImageSource& source) {
  const std::string train = source.root + "/train";
  LeftOutCounts left_out;
  for (const std::string& name : folders_in(train))
    if (!labels.contains(name))
      fail(ErrorKind::bad_input, "{}/{}: is not a class that wnids.txt lists", train, name);
  std::vector<std::string> by_label(labels.size());
  for (const auto& [wnid, label] : labels) by_label[size_t(label)] = wnid;
  for (size_t label = 0; label < by_label.size(); ++label) {
    const std::string below = "train/" + by_label[label] + "/images";
    std::vector<std::string> names = names_in(source.root + "/" + below);
    std::erase_if(names, [&](const std::string& name) {
      const bool other = !lower(name).ends_with(".jpeg");
      if (other) left_out.add_file(name);
      return other;
    });
    if (names.empty())
      fail(ErrorKind::bad_input, "{}/{}: has no images, expected *.JPEG", source.root, below);
    // _2 before _10
    std::stable_sort(names.begin(), names.end(),
                     [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
    for (const std::string& name : names) source.files.push_back({below + "/" + name, int32_t(label)});
  }
  alternate_classes(source.files);
  source.info.left_out = left_out.list();
}

void list_val(const std::map<std::string, int32_t>& labels, ImageSource& source) {
  const std::string file = "val_annotations.txt", val = source.root + "/val", path = val + "/" + file;
  for (const std::string& name : names_in(val))
    if (name != file && lower(name) == file)
      fail(ErrorKind::bad_input, "{}/{}: must be called {}", val, name, file);
  std::set<std::string> seen;
  for_each_line(path, "the labels of the validation images",
                [&](int64_t number, const std::vector<std::string>& fields) {
                  const auto refuse = [&](const std::string& why) {
                    fail(ErrorKind::bad_input, "{}: line {}: {}", path, number, why);
                  };
                  if (fields.size() < 2) refuse("expected a file name, a tab and a WordNet id");
                  const std::string& name = fields[0];
                  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos ||
                      name.find('\\') != std::string::npos)
                    refuse(message("'{}' is not the name of a file in val/images", name));
                  const auto label = labels.find(fields[1]);
                  if (label == labels.end())
                    refuse(message("{} is not a class that wnids.txt lists", fields[1]));
                  if (!seen.insert(name).second) refuse(message("{} is listed twice", name));
                  source.files.push_back({"val/images/" + name, label->second});
                });
  if (source.files.empty()) fail(ErrorKind::bad_input, "{}: lists no images", path);
  LeftOutCounts left_out;
  std::error_code ignored;  // without the folder, reading its first image says so
  if (fs::is_directory(val + "/images", ignored))
    for (const std::string& name : names_in(val + "/images"))
      if (!seen.contains(name)) left_out.add("not in " + file);
  source.info.left_out = left_out.list();
}

}  // namespace

DatasetInfo tiny_imagenet_traits() {
  return {.name = "tiny-imagenet",
          .height = kTinySide,
          .width = kTinySide,
          .statistics = {{0.4802f, 0.4481f, 0.3975f}, {0.2770f, 0.2691f, 0.2821f}}};
}

ImageSource list_tiny_imagenet(const std::string& dir, Split split) {
  check_split("tiny-imagenet", split, {Split::train, Split::val});
  ImageSource source;
  source.root = find_root(dir);
  const auto labels = read_labels(source.root + "/wnids.txt");
  source.info = tiny_imagenet_traits();
  source.info.split = split;
  source.info.class_names = read_class_names(source.root + "/words.txt", labels);
  source.info.folder = source.root + "/" + name(split);
  if (split == Split::train)
    list_train(labels, source);
  else
    list_val(labels, source);
  return source;
}

}  // namespace plume::data
