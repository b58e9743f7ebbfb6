// Sets of image files, decoded once: into a file of packed pixels that later runs map into memory.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "data/images/resize.h"
#include "data/sets/image_source.h"

namespace plume::data {

struct ImageSetParams {
  int64_t skip_bad = 0;  // so many unreadable images are left out, and named; the next one is an error
  // A longer one is resized to this (as Pillow and torchvision's Resize do); 0: images are as they are.
  // A shorter one stays: to enlarge it here would cost memory without end for a strip, and show nothing more
  // than enlarging the part that a crop wants.
  int64_t shorter_side = 0;
  // Instead, with shorter_side: every image becomes a square of this side, whatever its shape.
  bool squash = false;
  Interpolation interpolation = Interpolation::bilinear;
  std::string cache_dir;  // of the packed file; default $XDG_CACHE_HOME/plume or ~/.cache/plume
  int threads = 0;        // that decode; 0 for one per core
  // Gets a line when images are packed or kept in memory, and why, one for each image that is left out, one
  // that counts the files that are no images, and the source's notes; stderr without it.
  std::function<void(const std::string&)> log;
};

// The packed file is used when it is whole and made from the very same files (paths, sizes, times of change)
// and parameters, and written anew otherwise: atomically, by one process at a time. Where no file can be
// written the images are kept in memory.
//
// Throws bad_input, naming path and reason, on the first unreadable image that is not to be skipped; resource
// when the disk is full; usage on parameters out of range or a cache_dir inside the source's folder.
std::shared_ptr<const Dataset> open_image_set(const ImageSource& source, const ImageSetParams& params = {});

// Where the packed file lies; empty when there is no cache_dir and no home.
std::string packed_path(const ImageSource& source, const ImageSetParams& params);

}  // namespace plume::data
