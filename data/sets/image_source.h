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
  std::vector<std::string> notes;  // for people, one line each: classes without images

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
// Split::test is refused: the official test images have no labels. Lists may begin with a byte order mark and
// have lines that end as on Windows. Every image must have 64x64 pixels; files that are no images of the set
// are counted in info.left_out. Throws bad_input, naming file and line, on what is missing, unknown, listed
// twice or leads out of its folder; usage on a split that there is not.
ImageSource list_tiny_imagenet(const std::string& dir, Split split);

// A folder per class: DIR/train/<class>/, DIR/val (valid, validation) and DIR/test the same, with images in
// it and in its folders (folder_walk.h). A label is the place of the class's name among `classes`; without
// them, among the sorted names of train's folders, or the split's own where there is no train. A class may
// have no images where it is not the split's own folders that say which there are: one of `notes` then says
// so. Files that are no images are counted in info.left_out. Throws bad_input on a missing or empty folder,
// and on classes that have no label.
ImageSource list_image_folder(const std::string& dir, Split split,
                              const std::vector<std::string>& classes = {});
// What all images of either are like, as far as it does not depend on the files.
DatasetInfo tiny_imagenet_traits();
DatasetInfo image_folder_traits();

// Those whose folders are there. Throws bad_input where DIR is no folder.
std::vector<Split> image_folder_splits(const std::string& dir);

}  // namespace plume::data
