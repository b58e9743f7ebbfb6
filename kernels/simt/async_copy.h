// Copies from global to shared memory that a thread starts and does not wait for (cp.async). Copies form
// groups; when a thread has waited for one, its own copies are there, and after a barrier for all.
//
// Nothing arrives before the wait: until then the place is poisoned. Found: a copy nobody waits for, a
// misaligned one, a source that changes before the wait and a place that somebody else writes to meanwhile.
#pragma once
#include <vector>

#include "kernels/simt/fiber.h"

namespace simt::emu {

struct AsyncCopy {
  char* to;
  const char* from;
  unsigned bytes, valid;  // of the bytes, those that are read; the others become zero
  unsigned group;
  Location where;
  void* caller;
  char seen[16];  // the source when the copy began
};

// Of one thread.
struct AsyncCopies {
  std::vector<AsyncCopy> open;  // oldest first
  unsigned groups = 0;          // committed so far; the number of the group that copies join
};

void start_copy(void* to, const void* from, unsigned bytes, unsigned valid, bool cached, Location where);
void commit_copies();
// Until at most `newest` of the thread's groups are on their way.
void wait_for_copies(unsigned newest, Location where);

}  // namespace simt::emu

namespace simt {

// Copies kBytes (4, 8 or 16), both addresses multiples of it; the first `valid` bytes are read and the others
// become zero. kCached: through the L1, for what the block reads again; 16 bytes alone can go without.
template <int kBytes, bool kCached = kBytes != 16>
__forceinline__ void async_copy(void* shared, const void* global, unsigned valid = kBytes,
                                emu::Location where = emu::Location::current()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  static_assert(kCached || kBytes == 16);
  emu::start_copy(shared, global, kBytes, valid, kCached, where);
}
// The thread's copies since the last commit become a group, the newest one.
__forceinline__ void async_commit() { emu::commit_copies(); }
// Waits for all groups but the kNewest newest.
template <int kNewest>
__forceinline__ void async_wait(emu::Location where = emu::Location::current()) {
  emu::wait_for_copies(kNewest, where);
}

}  // namespace simt
