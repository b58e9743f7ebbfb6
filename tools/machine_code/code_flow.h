// Which blocks of a kernel's machine code run equally often: loops, dominators, and classes of blocks.
#pragma once
#include <cstdint>
#include <vector>

#include "tools/machine_code/machine_code.h"

namespace plume::tools {

struct CodeLoop {
  uint32_t header = 0;
  std::vector<uint32_t> blocks;  // ascending
  int outer = -1;                // the loop around it
};

struct CodeFlow {
  std::vector<CodeLoop> loops;  // inner ones first
  std::vector<int> loop_of;     // by block: the innermost loop, or -1
  // By block. Blocks of a class run equally often: one lies on every way through the other, and in the same
  // loops. Warps whose lanes part go through both ways, and through what follows once.
  std::vector<uint32_t> class_of;
  struct Class {
    std::vector<uint32_t> blocks;
    int parent = -1;    // the class that decides about it: of the nearest block on every way to it
    bool loop = false;  // begins a loop that its parent is not in
    bool unlikely = false;
    bool callee = false;  // of a function; its parents are those that call it
  };
  std::vector<Class> classes;  // parents first; [0] holds the entry
};
CodeFlow analyse_flow(const KernelCode& code);

}  // namespace plume::tools
