#include "kernels/simt/async_copy.h"

#include <algorithm>

#include "kernels/simt/emulator.h"

namespace simt::emu {
namespace {

constexpr unsigned char kPoison = 0xFF;

bool is_poison(const AsyncCopy& copy) {
  return std::all_of(copy.to, copy.to + copy.bytes,
                     [](char c) { return static_cast<unsigned char>(c) == kPoison; });
}

void finish_copy(Block& block, const AsyncCopy& copy) {
  race_access(copy.from, copy.valid, false, copy.caller);
  race_access(copy.to, copy.bytes, true, copy.caller);
  if (std::memcmp(copy.from, copy.seen, copy.valid) != 0)
    block.die(copy.where, "cp.async: the source has changed before the copy was waited for");
  if (options().poison && !is_poison(copy))
    block.die(copy.where, "cp.async: the destination was written to before the copy was waited for");
  std::memcpy(copy.to, copy.from, copy.valid);
  std::memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
}

}  // namespace

void start_copy(void* to, const void* from, unsigned bytes, unsigned valid, bool cached, Location where) {
  Block& block = *this_block;
  void* const caller = __builtin_return_address(0);
  count_async_copy(to, from, bytes, valid, cached, where, caller);
  const auto offset = uintptr_t(to) - uintptr_t(block.arena());
  if (offset >= kArena) block.die(where, "cp.async: the destination is not in shared memory");
  // A copy of zeros reads nothing, wherever its source points: past the edge of an image, say.
  if (valid > 0 && uintptr_t(from) - uintptr_t(block.arena()) < kArena)
    block.die(where, "cp.async: the source is not in global memory");
  if (uintptr_t(to) % bytes != 0 || uintptr_t(from) % bytes != 0)
    block.die(where, "cp.async: the %s address is not a multiple of %u bytes",
              uintptr_t(to) % bytes ? "destination" : "source", bytes);
  if (valid > bytes) block.die(where, "cp.async: %u of %u bytes are to be read", valid, bytes);
  AsyncCopies& copies = block.copies();
  AsyncCopy copy{
      static_cast<char*>(to), static_cast<const char*>(from), bytes, valid, copies.groups, where, caller, {}};
  race_access(from, valid, false, caller);
  race_access(to, bytes, true, caller);
  std::memcpy(copy.seen, from, valid);
  if (options().poison) std::memset(to, kPoison, bytes);
  copies.open.push_back(copy);
}

void commit_copies() { ++this_block->copies().groups; }

void wait_for_copies(unsigned newest, Location where) {
  Block& block = *this_block;
  AsyncCopies& copies = block.copies();
  const auto arrives = [&](const AsyncCopy& copy) { return copy.group + newest < copies.groups; };
  const auto end = std::find_if_not(copies.open.begin(), copies.open.end(), arrives);
  unsigned done = 0, all = 0, last = ~0u;  // groups that hold copies
  for (auto copy = copies.open.begin(); copy != copies.open.end(); ++copy) {
    if (copy->group == last) continue;
    last = copy->group;
    ++all;
    done += copy < end;
  }
  count_async_wait(done, all, where, __builtin_return_address(0));
  for (auto copy = copies.open.begin(); copy != end; ++copy) finish_copy(block, *copy);
  copies.open.erase(copies.open.begin(), end);
}

}  // namespace simt::emu
