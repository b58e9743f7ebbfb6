#include "kernels/simt/count_memory.h"

#include <algorithm>

namespace simt::emu {

void Footprint::measure(LaneAccess* accesses, unsigned count) {
  const auto before = [](const LaneAccess& a, const LaneAccess& b) { return a.address < b.address; };
  if (!std::is_sorted(accesses, accesses + count, before)) std::sort(accesses, accesses + count, before);
  *this = {0, 0, 0, std::move(touched)};
  touched.clear();
  uintptr_t end = 0, last_line = ~uintptr_t(0);
  for (unsigned i = 0; i < count; ++i) {
    const uintptr_t from = std::max(accesses[i].address, end), to = accesses[i].address + accesses[i].bytes;
    if (to <= from) continue;
    bytes += unsigned(to - from);
    end = to;
    for (uintptr_t s = from / kSectorBytes; s <= (to - 1) / kSectorBytes; ++s) {
      if (!touched.empty() && touched.back() == s) continue;
      touched.push_back(s);
      const uintptr_t line = s * kSectorBytes / kLineBytes;
      lines += line != last_line;
      last_line = line;
    }
  }
  sectors = unsigned(touched.size());
}

unsigned wavefronts(const LaneAccess* accesses, unsigned count) {
  constexpr unsigned kMostWords = 32 * 5;  // 16 bytes that begin within a word
  unsigned widest = 0, total = 0;
  for (unsigned i = 0; i < count; ++i) widest = std::max<unsigned>(widest, accesses[i].bytes);
  const unsigned lanes_per_turn = widest <= 4 ? 32 : widest <= 8 ? 16 : 8;
  for (unsigned first = 0; first < 32; first += lanes_per_turn) {
    uintptr_t words[kMostWords];
    unsigned found = 0;
    for (unsigned i = 0; i < count; ++i) {
      if (accesses[i].lane / lanes_per_turn != first / lanes_per_turn) continue;
      const uintptr_t last = (accesses[i].address + accesses[i].bytes - 1) / kBankBytes;
      for (uintptr_t w = accesses[i].address / kBankBytes; w <= last; ++w) words[found++] = w;
    }
    std::sort(words, words + found);
    const auto distinct = unsigned(std::unique(words, words + found) - words);
    unsigned per_bank[kBanks] = {}, most = 0;
    for (unsigned i = 0; i < distinct; ++i) most = std::max(most, ++per_bank[words[i] % kBanks]);
    total += most;
  }
  return total;
}

unsigned atomic_turns(const LaneAccess* accesses, unsigned count) {
  unsigned most = 0;
  for (unsigned i = 0; i < count; ++i)
    most = std::max(most, unsigned(std::count_if(accesses, accesses + count, [&](const LaneAccess& a) {
                      return a.address == accesses[i].address;
                    })));
  return most;
}

SectorCache::SectorCache(plume::CacheShape shape)
    : ways_(std::max(shape.ways, 1u)),
      sets_(std::max<uint64_t>(shape.bytes / kLineBytes / ways_, 1)),
      lines_(sets_ * ways_) {}

// The line, in place of the least recently used one of its set where it is not there.
SectorCache::Line& SectorCache::find(uintptr_t number) {
  Line* set = &lines_[number % sets_ * ways_];
  Line* oldest = set;
  for (Line* line = set; line < set + ways_; ++line) {
    if (line->epoch != epoch_) line->used = 0;
    if (line->epoch == epoch_ && line->number == number) {
      line->used = ++clock_;
      return *line;
    }
    if (line->used < oldest->used) oldest = line;
  }
  *oldest = {number, ++clock_, epoch_, 0, 0};
  return *oldest;
}

bool SectorCache::mark(uintptr_t sector, bool written) {
  constexpr uintptr_t kSectors = kLineBytes / kSectorBytes;
  Line& line = find(sector / kSectors);
  const auto bit = uint8_t(1u << sector % kSectors);
  const bool there = (written ? line.dirty : line.valid) & bit;
  line.valid = uint8_t(line.valid | bit);
  if (written) line.dirty = uint8_t(line.dirty | bit);
  return there;
}

}  // namespace simt::emu
