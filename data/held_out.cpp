#include "data/held_out.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {

constexpr uint64_t kStream = 0x68656C64ull << 32;  // keeps these random numbers apart from all others

int64_t limited(const Dataset& set, int64_t limit) {
  return limit > 0 ? std::min(limit, set.size()) : set.size();
}

std::vector<std::vector<int64_t>> images_by_class(const Dataset& set, int64_t limit) {
  std::vector<std::vector<int64_t>> classes(size_t(set.classes()));
  for (int64_t i = 0; i < limited(set, limit); ++i) classes[size_t(set.get(i).label)].push_back(i);
  return classes;
}

HeldOutBounds bounds_of(const std::vector<std::vector<int64_t>>& classes) {
  HeldOutBounds bounds;
  for (const auto& images : classes)
    if (images.size() > 1) {
      ++bounds.least;
      bounds.most += int64_t(images.size()) - 1;
    }
  return bounds;
}

// As many of each class as its share, by largest remainders within the bounds of each.
std::vector<int64_t> quotas(const std::vector<std::vector<int64_t>>& classes, int64_t count) {
  int64_t all = 0;
  for (const auto& images : classes) all += int64_t(images.size());
  const auto size = [&](size_t k) { return int64_t(classes[k].size()); };
  // How much a class has less than its share, times `all`.
  std::vector<int64_t> own(classes.size(), 0);
  const auto lacks = [&](size_t k) { return count * size(k) - own[k] * all; };
  int64_t sum = 0;
  for (size_t k = 0; k < classes.size(); ++k)
    if (size(k) > 1) sum += own[k] = std::clamp<int64_t>(count * size(k) / all, 1, size(k) - 1);
  for (; sum != count; sum += sum < count ? 1 : -1) {
    const int64_t step = sum < count ? 1 : -1;
    size_t chosen = classes.size();
    for (size_t k = 0; k < classes.size(); ++k)
      if (own[k] + step >= 1 && own[k] + step < size(k) &&
          (chosen == classes.size() || step * lacks(k) > step * lacks(chosen)))
        chosen = k;
    own[chosen] += step;
  }
  return own;
}

}  // namespace

HeldOutBounds held_out_bounds(const Dataset& set, int64_t limit) {
  return bounds_of(images_by_class(set, limit));
}

std::vector<int64_t> held_out(const Dataset& set, int64_t limit, int64_t count, uint64_t seed) {
  std::vector<std::vector<int64_t>> classes = images_by_class(set, limit);
  const HeldOutBounds bounds = bounds_of(classes);
  if (!bounds.allow(count))
    fail(ErrorKind::bad_input,
         "data set {}: {} images cannot be held out of {}: each of {} classes gives at least one and keeps "
         "one, that is {} to {}",
         set.name(), count, limited(set, limit), bounds.least, bounds.least, bounds.most);
  const std::vector<int64_t> own = quotas(classes, count);
  std::vector<int64_t> chosen;
  for (size_t k = 0; k < classes.size(); ++k) {
    std::vector<int64_t>& images = classes[k];
    // The first steps of a Fisher-Yates shuffle; std::sample is not the same in every standard library.
    RandomSequence random(seed, kStream | k);
    for (size_t i = 0; i < size_t(own[k]); ++i) {
      std::swap(images[i], images[i + random.below(images.size() - i)]);
      chosen.push_back(images[i]);
    }
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace plume::data
