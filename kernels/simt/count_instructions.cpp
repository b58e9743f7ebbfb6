// How many instructions a warp executes: estimated from the code that the host's compiler made of the kernel.
//
// Every piece of straight code begins with a call of the branch report; the bytes up to the next such call
// are the piece, less the calls that report its memory accesses; behind a warp operation or a barrier stands
// the emulator's code. Host code of a kernel is longer than a GPU's:
// one value at a time, loops that are not unrolled, registers saved around every report. kHostPerGpu is the
// ratio found for kernels whose SASS was counted by hand (depthwise 3x3 and 5x5, block_gemm): 2.5 to 4.
#include <algorithm>
#include <set>

#include "kernels/simt/count_trace.h"

namespace simt::emu {
namespace {

constexpr double kHostPerGpu = 3;

#if defined(__x86_64__)
constexpr double kBytesPerInstruction = 4.3;
constexpr int kCallBytes = 5;
constexpr double kReportBytes = 12;  // a call, and what passes it the address
constexpr uint64_t kLongestPiece = 2048;

// The target of a call that ends at pc, or 0: E8 and a displacement.
uint64_t call_target(uint64_t pc) {
  const auto* code = reinterpret_cast<const unsigned char*>(pc - kCallBytes);
  if (code[0] != 0xE8) return 0;
  int32_t displacement;
  std::memcpy(&displacement, code + 1, sizeof displacement);
  return pc + uint64_t(int64_t(displacement));
}

// `ends`: targets of calls that end a piece.
double instructions_of_piece(uint64_t pc, const std::set<uint64_t>& ends, const std::set<uint64_t>& reports) {
  double bytes = 0;
  for (uint64_t at = pc; at < pc + kLongestPiece; ++at) {
    const uint64_t target = call_target(at + kCallBytes);
    if (target && ends.count(target)) {
      bytes += double(at - pc);
      break;
    }
    if (target && reports.count(target)) bytes -= kReportBytes;
  }
  return std::max(bytes / kBytesPerInstruction, 1.0) / kHostPerGpu;
}
#endif

}  // namespace

void Counter::estimate_instructions() {
  [[maybe_unused]] const auto& nodes = lockstep_.nodes();
  constexpr double kPiece = 4;  // where the code cannot be read
#if defined(__x86_64__)
  std::set<uint64_t> ends, reports;
  const auto is_access = [](EventKind kind) {
    return kind == EventKind::load || kind == EventKind::store || kind == EventKind::shared_load ||
           kind == EventKind::shared_store || kind >= EventKind::async_load;
  };
  for (uint32_t node = 0; node < counts_.size(); ++node)
    if (visits_[node] > 0 && nodes[node].pc > kLongestPiece)
      if (const uint64_t target = call_target(nodes[node].pc))
        (is_access(kinds_[node]) ? reports : ends).insert(target);
#endif
  for (uint32_t node = 0; node < counts_.size(); ++node) {
    if (visits_[node] == 0) continue;
    double instructions = 1;
    if (kinds_[node] == EventKind::step) {
      instructions = kPiece;
#if defined(__x86_64__)
      const uint64_t pc = nodes[node].pc;
      if (pc > kLongestPiece && ends.count(call_target(pc)))
        instructions = instructions_of_piece(pc, ends, reports);
#endif
    }
    counts_[node].instructions += instructions * visits_[node];
  }
}

}  // namespace simt::emu
