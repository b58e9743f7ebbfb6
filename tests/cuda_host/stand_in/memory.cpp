// Memory of the machine: one arena that is closed to the host but while a stream runs.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

constexpr size_t kPage = 4096, kAlignment = 512;
constexpr int kFresh = 0xFB, kFreed = 0xFD;  // NaN as floats of any size
constexpr size_t kFilled = size_t(1) << 20;  // of a block, at most

size_t rounded(size_t bytes, size_t unit) { return (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit; }

}  // namespace

std::map<const char*, Blocks::Block>::const_iterator Blocks::find(const void* p) const {
  auto it = blocks_.upper_bound(static_cast<const char*>(p));
  if (it == blocks_.begin()) return blocks_.end();
  --it;
  return static_cast<const char*>(p) < it->first + std::max<size_t>(it->second.bytes, 1) ? it : blocks_.end();
}
void Blocks::note(const void* p, std::vector<Use>& uses) const {
  if (const auto it = find(p); it != blocks_.end()) uses.push_back({it->first, it->second.serial});
}
bool Blocks::alive(const Use& use) const {
  const auto it = blocks_.find(use.begin);
  return it != blocks_.end() && it->second.serial == use.serial;
}

void Machine::note_use(const void* p, std::vector<Use>& uses) const {
  device_.note(p, uses);
  pinned_.note(p, uses);
}

void Machine::memory(size_t* available, size_t* total) const {
  *available = 0;
  for (const auto& [offset, bytes] : free_) *available += bytes;
  *total = arena_bytes_;
}

// By a protection key of this thread where the processor has them; the pages' own rights cost milliseconds to
// change once many are in use.
void Machine::open() {
  if (!guard_ || open_depth_++ > 0) return;
  if (key_ >= 0)
    pkey_set(key_, 0);
  else
    mprotect(arena_, arena_bytes_, PROT_READ | PROT_WRITE);
  for (const Fill& fill : fills_) std::memset(fill.begin, fill.byte, fill.bytes);
  fills_.clear();
}
void Machine::close() {
  if (!guard_ || --open_depth_ > 0) return;
  if (key_ >= 0)
    pkey_set(key_, PKEY_DISABLE_ACCESS);
  else
    mprotect(arena_, arena_bytes_, PROT_NONE);
}

bool Machine::take_range(size_t bytes, size_t& offset) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < bytes) continue;
    offset = it->first;
    const size_t left = it->second - bytes;
    free_.erase(it);
    if (left) free_[offset + bytes] = left;
    return true;
  }
  return false;
}

Status Machine::allocate(void** pointer, size_t bytes) {
  if (const Status s = forbidden("cudaMalloc", true)) return s;
  ++counts.allocations;
  if (fail_malloc && counts.allocations >= fail_malloc) {
    last_failed = "cudaMalloc";
    return kOutOfMemory;
  }
  size_t offset = 0;
  if (!take_range(rounded(bytes, kAlignment), offset)) return kOutOfMemory;
  char* const made = arena_ + offset;
  fills_.push_back({made, std::min(bytes, kFilled), kFresh});
  device_.add(made, bytes);
  *pointer = made;
  return kSuccess;
}

Status Machine::release(void* pointer) {
  auto* const begin = static_cast<char*>(pointer);
  if (!begin) return kSuccess;
  if (!device_.begins(begin)) return kInvalidValue;
  if (const Status s = forbidden("cudaFree", true)) return s;
  ++counts.frees;
  for (const auto& stream : streams_)
    if (!stream->capture) run_until(*stream, stream->given);
  const size_t bytes = device_.bytes(begin);
  constexpr size_t kLarge = 16 * kPage;
  if (bytes > kLarge) {  // its whole pages go back to the system, or each opening would cost more
    char* const first = arena_ + rounded(size_t(begin - arena_), kPage);
    madvise(first, size_t(begin + bytes - first) / kPage * kPage, MADV_DONTNEED);
  } else {
    fills_.push_back({begin, bytes, kFreed});
  }
  device_.remove(begin);
  // Grown together with its neighbours.
  size_t offset = size_t(begin - arena_), size = rounded(bytes, kAlignment);
  if (const auto next = free_.find(offset + size); next != free_.end()) {
    size += next->second;
    free_.erase(next);
  }
  if (auto next = free_.lower_bound(offset); next != free_.begin())
    if (const auto before = std::prev(next); before->first + before->second == offset) {
      before->second += size;
      return kSuccess;
    }
  free_[offset] = size;
  return kSuccess;
}

Status Machine::allocate_pinned(void** pointer, size_t bytes) {
  if (const Status s = forbidden("cudaHostAlloc", true)) return s;
  *pointer = std::aligned_alloc(kPage, rounded(bytes, kPage));
  if (!*pointer) return kOutOfMemory;
  std::memset(*pointer, kFresh, std::min(bytes, kFilled));
  pinned_.add(static_cast<char*>(*pointer), bytes);
  return kSuccess;
}

Status Machine::release_pinned(void* pointer) {
  auto* const begin = static_cast<char*>(pointer);
  if (!begin) return kSuccess;
  if (!pinned_.begins(begin)) return kInvalidValue;
  if (const Status s = forbidden("cudaFreeHost", true)) return s;
  for (const auto& stream : streams_)
    if (!stream->capture) run_until(*stream, stream->given);
  pinned_.remove(begin);
  std::free(pointer);
  return kSuccess;
}

Machine::Machine() {
  const auto number = [](const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text && *text ? size_t(std::strtoull(text, nullptr, 10)) : otherwise;
  };
  fail_call = number("PLUME_STAND_IN_FAIL_CALL", 0);
  fail_malloc = number("PLUME_STAND_IN_FAIL_MALLOC", 0);
  if (const char* const name = std::getenv("PLUME_STAND_IN_FAIL_NAMED")) fail_named = name;
  const size_t tracer = number("PLUME_STAND_IN_TRACER", 1);
  tracer_works = tracer != 0;
  tracer_refuses = tracer > 1 ? int(tracer) : 0;
  has_kernels = number("PLUME_STAND_IN_KERNELS", 1) != 0;
  guard_ = number("PLUME_STAND_IN_GUARD", 1) != 0;
  arena_bytes_ = rounded(number("PLUME_STAND_IN_MEMORY", 4096) << 20, kPage);
  void* const mapped =
      mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) std::abort();
  arena_ = static_cast<char*>(mapped);
  madvise(arena_, arena_bytes_, MADV_HUGEPAGE);  // fewer pages whose rights change
  if (guard_) {
    key_ = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (key_ < 0 || pkey_mprotect(arena_, arena_bytes_, PROT_READ | PROT_WRITE, key_) != 0) {
      key_ = -1;
      mprotect(arena_, arena_bytes_, PROT_NONE);
    }
  }
  free_[0] = arena_bytes_;
}

}  // namespace plume::stand_in
