#include "engine/memory/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/core/context.h"
#include "engine/memory/allocator.h"

namespace plume {
namespace {

// A view of the first bytes of a block.
Tensor within(const Tensor& block, const Shape& shape, DType dtype) {
  const auto owner = std::make_shared<Tensor>(block);
  return Tensor::adopt(std::shared_ptr<void>(owner, owner->raw()), shape, dtype, block.device());
}

}  // namespace

Tensor pinned_tensor(const Shape& shape, DType dtype, const char* tag) {
  refuse_while_recording("allocate pinned memory");
  CachingAllocator& allocator = pinned_allocator();
  const size_t bytes = size_t(shape.elements()) * size_of(dtype);
  std::shared_ptr<void> storage(allocator.allocate(bytes, tag), [&](void* p) { allocator.release(p); });
  return Tensor::adopt(std::move(storage), shape, dtype, Device::cpu);
}

// Pinned memory that a copy still reads must not get into other hands.
Upload::~Upload() {
  try {
    for (const Place& place : places_)
      if (place.copied) backend(Device::cuda).await_event(place.copied.get());
  } catch (const Error&) {  // the device is lost, and whoever uses it next will say so
  }
}

void Upload::send(const void* from, size_t bytes, Tensor& to) {
  refuse_while_recording("copy numbers of the host to the device");
  PLUME_CHECK(bytes <= to.bytes(), "upload: {} bytes into {}", bytes, to_string(to));
  const DeviceBackend& b = backend(to.device());
  void* const stream = context(to.device()).stream();
  if (is_host(to.device()) || !b.record_event) {
    b.copy(to.raw(), from, bytes, stream);
    return b.synchronize(stream);
  }
  Place& place = places_[next_++ % places_.size()];
  if (place.copied) b.await_event(place.copied.get());
  place.copied.reset();
  if (!place.host.defined() || place.host.bytes() < bytes)
    place.host = pinned_tensor({int64_t(bytes)}, DType::u8, "upload");
  std::memcpy(place.host.raw(), from, bytes);
  b.copy(to.raw(), place.host.raw(), bytes, stream);
  place.copied = b.record_event(stream);
}

Staging::Staging(Device device) : device_(device) {}

Staging::~Staging() {
  try {
    clear();
  } catch (const Error&) {  // the device is lost, and whoever uses it next will say so
  }
}

// The host waits until the place's copies are done.
void Staging::settle(Place& place) {
  if (place.copied) backend(device_).await_event(place.copied.get());
  place.copied.reset();
  place.host.clear();
}

void Staging::begin(std::vector<Tensor> host) {
  refuse_while_recording("fetch a batch");
  PLUME_CHECK(begun_ - given_up_ < 2, "staging: a third batch is begun before the first is given up");
  Place& p = place(begun_);
  settle(p);
  const DeviceBackend& b = backend(device_);
  if (is_host(device_) && !b.side_stream) {  // nothing to carry
    p.batch.clear();
    for (const Tensor& t : host) p.batch.push_back(t.to(device_));
    ++begun_;
    return;
  }
  void* const stream = context(device_).stream();
  void* const side = b.side_stream ? b.side_stream() : stream;
  if (p.used) b.wait_event(side, p.used.get());
  p.used.reset();
  bool grown = false;
  p.blocks.resize(std::max(p.blocks.size(), host.size()));
  for (size_t i = 0; i < host.size(); ++i) {
    if (!host[i].defined() || (p.blocks[i].defined() && p.blocks[i].bytes() >= host[i].bytes())) continue;
    p.blocks[i] = Tensor::empty({int64_t(host[i].bytes())}, DType::u8, device_, "batch");
    grown = true;
  }
  // Fresh memory may have belonged to somebody whose work is still in the stream.
  if (grown && b.record_event) b.wait_event(side, b.record_event(stream).get());
  p.batch.assign(host.size(), Tensor());
  for (size_t i = 0; i < host.size(); ++i) {
    if (!host[i].defined()) continue;
    p.batch[i] = within(p.blocks[i], host[i].shape(), host[i].dtype());
    b.copy(p.batch[i].raw(), host[i].raw(), host[i].bytes(), side);
  }
  p.host = std::move(host);
  if (b.record_event)
    p.copied = b.record_event(side);
  else
    b.synchronize(side);
  ++begun_;
}

const std::vector<Tensor>& Staging::take() {
  refuse_while_recording("fetch a batch");
  PLUME_CHECK(pending(), "staging: no batch was begun");
  const DeviceBackend& b = backend(device_);
  if (taken_ > given_up_) {
    Place& before = place(given_up_++);
    if (b.record_event) before.used = b.record_event(context(device_).stream());
  }
  Place& p = place(taken_++);
  if (p.copied) b.wait_event(context(device_).stream(), p.copied.get());
  return p.batch;
}

void Staging::clear() {
  const DeviceBackend& b = backend(device_);
  for (Place& p : places_) {
    settle(p);
    p.used.reset();
    p.batch.clear();
  }
  // What was taken may still be read by work in the stream.
  if (taken_ > given_up_) b.synchronize(context(device_).stream());
  begun_ = taken_ = given_up_ = 0;
}

}  // namespace plume
