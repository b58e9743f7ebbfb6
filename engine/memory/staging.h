// Carries batches from the host to a device while the device works on the batch before: two places on the
// device take turns, and copies run on a stream of their own where the device has one.
//
//   staging.begin({pixels, labels});            // pinned host tensors
//   const std::vector<Tensor>& here = staging.take();
//   ... work that reads `here` is given to the context's stream ...
//   staging.begin(...);                         // the next batch, copied meanwhile
//   staging.take();                             // the first place is free for another batch
#pragma once
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "engine/core/tensor.h"

namespace plume {

// Uninitialised host memory that copies to a device run fastest from (allocator.h).
Tensor pinned_tensor(const Shape& shape, DType dtype, const char* tag = "batch");

// Numbers that change from step to step and lie in one place of the device's memory: pinned places take
// turns, so that the host goes on at once.
class Upload {
 public:
  Upload() = default;
  Upload(const Upload&) {}  // a copy has places of its own
  Upload& operator=(const Upload&) { return *this; }
  ~Upload();

  // Copies `bytes` bytes to the tensor's memory, ordered on its device's stream. What is at `from` may go.
  // Not while a step is recorded.
  void send(const void* from, size_t bytes, Tensor& to);

 private:
  struct Place {
    Tensor host;
    std::shared_ptr<void> copied;  // event: the place may be overwritten
  };
  std::array<Place, 4> places_;
  size_t next_ = 0;
};

// Numbers of a step that kernels read, on every device where they are asked for: there they keep their place.
template <class T, size_t N>
class StepNumbers {
 public:
  void set(const std::array<T, N>& numbers) {
    numbers_ = numbers;
    for (auto& [device, place] : places_)
      if (place.tensor.defined()) place.upload.send(numbers_.data(), sizeof numbers_, place.tensor);
  }
  const Tensor& on(Device device) {
    Place& place = places_[device];
    if (!place.tensor.defined()) {
      Tensor made = Tensor::empty({int64_t(N)}, dtype_of<T>, device, "random");
      place.upload.send(numbers_.data(), sizeof numbers_, made);
      place.tensor = made;
    }
    return place.tensor;
  }

 private:
  struct Place {
    Tensor tensor;
    Upload upload;
  };
  std::array<T, N> numbers_{};
  std::map<Device, Place> places_;
};

// For one thread. The device's memory is kept and grows with the largest batch.
class Staging {
 public:
  explicit Staging(Device device);
  ~Staging();  // waits for copies under way
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Begins to copy; holds on to `host` until that is done. At most two batches are begun and not yet given
  // up. An undefined tensor stays one.
  void begin(std::vector<Tensor> host);
  bool pending() const { return begun_ > taken_; }
  // The oldest batch begun and not taken, for work on the context's stream that is given from now on. Gives
  // up the one taken before: no more work that reads it may be given.
  const std::vector<Tensor>& take();
  void clear();  // gives up all batches

 private:
  struct Place {
    std::vector<Tensor> blocks;  // memory, at least as large as the batch needs
    std::vector<Tensor> batch;   // what take() returns
    std::vector<Tensor> host;
    std::shared_ptr<void> copied;  // event: the host tensors may go
    std::shared_ptr<void> used;    // event: the place may be overwritten
  };
  Place& place(int64_t i) { return places_[size_t(i % 2)]; }
  void settle(Place& place);

  Device device_;
  std::array<Place, 2> places_;
  int64_t begun_ = 0, taken_ = 0, given_up_ = 0;
};

}  // namespace plume
