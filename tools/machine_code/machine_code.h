// The machine code of compiled kernels with its source lines: what tools/kernel_report.sh --sass writes from
// nvdisasm's listing, one text file per source.
//
//   K 95 0 0 0 rows<bf16, 8>      registers, static shared bytes, stack bytes, spilled bytes, short name
//   P kernels/rows.cu             the next file
//   C 7 1:20 2:31                 chain 7: line 20 of file 1, inlined at line 31 of file 2
//   :.L_x_3                       a label
//   7 @P0 LDG.E.128 R8, [R4.64]   an instruction and its chain (0: no line is known)
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/profiler/kernel_counts.h"

namespace plume::tools {

// What an instruction does that the emulator counts, too.
enum class CodeAction : uint8_t {
  none,
  load,
  async_load,  // global to shared memory, past the registers
  store,
  shared_load,
  shared_store,
  ldmatrix,
  local,  // spilled registers, or arrays that are no registers
  atomic,
  mma,
  barrier,
  shuffle,
};

struct CodePlace {
  std::string file;
  int line = 0;
  bool operator==(const CodePlace&) const = default;
};
// "/somewhere/kernels/x.cu" gives "kernels/x.cu": one name of a file for all compilers.
std::string source_label(const std::string& path);
// "kernels/common/vector.h:60 (kernels/rows.cu:20)": the innermost line, and the outermost.
std::string to_text(const std::vector<CodePlace>& chain);

struct MachineInstruction {
  uint32_t chain = 0;  // of KernelCode::chains
  bool predicated = false;
  std::string opcode, operands;  // "LDG.E.128", "R8, [R4.64]"
  Pipe pipe{};
  CodeAction action{};
  unsigned bytes = 0;  // of a lane, where memory is accessed
  std::vector<uint16_t> reads, writes;
};

// Straight code: instructions [first, last).
struct CodeBlock {
  uint32_t first = 0, last = 0;
  std::vector<uint32_t> next, before;
  std::vector<uint32_t> calls;  // blocks that begin a function called here
  bool unlikely = false;        // calls a routine of the compiler for rare operands
};

struct KernelCode {
  std::string name;  // short_kernel_name()
  double registers = 0, shared_bytes = 0, stack_bytes = 0, spilled_bytes = 0;
  std::vector<std::vector<CodePlace>> chains;  // innermost first; [0] is empty
  std::vector<MachineInstruction> instructions;
  std::vector<CodeBlock> blocks;  // the kernel's entry is the first
};
// A "K" line and what follows it. Throws bad_input, naming `path` and the line.
KernelCode parse_kernel(const std::string& text, int first_line, const std::vector<std::string>& files,
                        const std::string& path);

// The kernels of all files of an architecture ("90") in a folder; each is parsed when it is first asked for.
class MachineCode {
 public:
  // Throws usage where the folder has none.
  MachineCode(const std::string& folder, const std::string& arch);
  // By short name, or null. Lives as long as this.
  const KernelCode* find(const std::string& short_name);
  std::vector<std::string> names() const;
  // Is the file that a kernel stands in older than this one?
  bool is_older(const std::string& short_name, const std::string& source) const;

 private:
  struct Source {
    std::string path, text;
    std::vector<std::string> files;
  };
  struct Entry {
    size_t source = 0, begin = 0, end = 0;
    int line = 0;
    std::unique_ptr<KernelCode> code;
  };
  std::vector<Source> sources_;
  std::map<std::string, Entry> kernels_;
};

}  // namespace plume::tools
