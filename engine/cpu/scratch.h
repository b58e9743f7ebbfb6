// Memory for the piece of work at hand that stays with its thread. The allocator's blocks wander: what one
// thread gives back another one gets next, and finds in the first one's cache instead of its own (an expanded
// image of MobileNetV3 then costs 1.6 times the time).
#pragma once
#include <cstdint>
#include <memory>

namespace plume::cpu {

// Used as `static thread_local Scratch<T>`, by a function that does not call itself.
template <class T>
class Scratch {
 public:
  // Room for `count` values, with anything in it; earlier pointers are no longer valid.
  T* get(int64_t count) {
    if (count > size_) {
      values_.reset();
      values_ = std::make_unique_for_overwrite<T[]>(size_t(count));
      size_ = count;
    }
    return values_.get();
  }

 private:
  std::unique_ptr<T[]> values_;
  int64_t size_ = 0;
};

}  // namespace plume::cpu
