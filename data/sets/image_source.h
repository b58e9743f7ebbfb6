// Labelled image files that are listed but not read yet: what the readers of folders find, and what is packed
// (data/sets/image_set.h).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

struct ImageFile {
  std::string path;  // below the root
  int32_t label = 0;
};

struct ImageSource {
  DatasetInfo info;  // height and width: what every image must have; 0 for any
  std::string root;
  std::vector<ImageFile> files;

  std::string path(const ImageFile& file) const { return root + "/" + file.path; }
};

// Hash over names, labels, and every file's path, size and time of change. A file that cannot be examined
// counts as such: reading it says why.
uint64_t source_fingerprint(const ImageSource& source);

// The names in a folder, sorted, hidden ones left out. Throws bad_input, naming it, when it cannot be listed.
std::vector<std::string> names_in(const std::string& folder);
// `names_in` that are folders themselves. Throws bad_input on one that cannot be examined (a loop of links).
std::vector<std::string> folders_in(const std::string& folder);

// Sorts by the place in the class, then by class, so that the first N images show all classes.
void alternate_classes(std::vector<ImageFile>& files);

// Tiny ImageNet (Stanford CS231n) in its official layout, below DIR or DIR/tiny-imagenet-200:
//
//   wnids.txt               one WordNet id per line; its place is the label
//   words.txt               WordNet id, tab, names: the first one is the class's
//   train/<wnid>/images/*.JPEG
//   val/images/*.JPEG, val/val_annotations.txt: file name, tab, WordNet id, tab, ...
//
// Split::test is val: the official test images have no labels. Every image must have 64x64 pixels. Throws
// bad_input, naming file and line, on what is missing, unknown, listed twice or leads out of its folder.
ImageSource list_tiny_imagenet(const std::string& dir, Split split);

// A folder per class: DIR/train/<class>/*.{jpg,jpeg,png} in any case, and DIR/val or DIR/test the same.
// Labels are the places of the sorted class names. Throws bad_input on a missing or empty folder, and where
// the two splits have different classes.
ImageSource list_image_folder(const std::string& dir, Split split);

}  // namespace plume::data
