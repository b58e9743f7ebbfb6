#include "tools/training/selection.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "data/held_out.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::tools {
namespace {

// What would help in place of a number of images that cannot be held out.
[[noreturn]] void refuse(const Recipe& r, int64_t count, int64_t all, const data::HeldOutBounds& bounds) {
  if (bounds.least == 0)
    fail(ErrorKind::bad_input,
         "--validation {}: none of the {} training images can be held out: no class has two; give "
         "--validation 0 to select on the test set",
         r.validation, all);
  fail(ErrorKind::bad_input,
       "--validation {}: {} of the {} training images cannot be held out: each of {} classes gives at least "
       "one and keeps one; give {} to {}, or 0 to select on the test set",
       r.validation, count, all, bounds.least, bounds.least, bounds.most);
}

}  // namespace

ValidationWish parse_validation(const std::string& text) {
  ValidationWish wish;
  wish.automatic = text == "auto";
  if (wish.automatic) return wish;
  double number = 1;  // which is refused, as what is no number is
  try {
    number = parse_number("--validation", text, 0, 1e15);
  } catch (const Error&) {
  }
  const bool whole = number == std::floor(number);
  PLUME_CHECK(number < 1 || (whole && number >= 2),
              "--validation: '{}' is neither auto, 0, a share below 1 nor a number of images from 2 on",
              text);
  if (number < 1)
    wish.share = number;
  else
    wish.count = int64_t(number);
  return wish;
}

int64_t Selection::images() const {
  if (!validation_set) return 0;
  return validation_limit > 0 ? std::min(validation_limit, validation_set->size()) : validation_set->size();
}

Selection select_images(const Recipe& r, std::shared_ptr<const data::Dataset> train_set,
                        const OpenValidation& val) {
  Selection s{std::move(train_set), nullptr, r.limit_train, 0, ""};
  const ValidationWish wish = parse_validation(r.validation);
  if (wish.automatic && val) {
    s.validation_set = val();
    s.validation_limit = r.limit_test;
    s.about = message("{} validation images (the split val)", s.images());
    return s;
  }
  if (!wish.automatic && wish.share == 0 && wish.count == 0) return s;
  const data::Dataset& whole = *s.train_set;
  const int64_t all = r.limit_train > 0 ? std::min(r.limit_train, whole.size()) : whole.size();
  const data::HeldOutBounds bounds = data::held_out_bounds(whole, r.limit_train);
  const double share = wish.automatic ? kUsualShare : wish.share;
  int64_t count = wish.count > 0 ? wish.count : std::llround(share * double(all));
  // Who asked for nothing is not refused because of few images.
  if (wish.automatic && bounds.least == 0) return s;
  if (wish.automatic) count = std::clamp(count, bounds.least, bounds.most);
  if (!bounds.allow(count)) refuse(r, count, all, bounds);
  const std::vector<int64_t> chosen = data::held_out(whole, r.limit_train, count, uint64_t(r.seed));
  std::vector<int64_t> every(size_t(all), 0), rest;
  std::iota(every.begin(), every.end(), int64_t(0));
  std::set_difference(every.begin(), every.end(), chosen.begin(), chosen.end(), std::back_inserter(rest));
  s.validation_set = whole.subset(chosen);
  s.about = fmt::format("{} validation images ({:.3g} % of the training set)", count,
                        100 * double(count) / double(all));
  s.train_set = whole.subset(rest);
  s.train_limit = 0;
  return s;
}

}  // namespace plume::tools
