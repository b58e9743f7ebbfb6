// Host memory that begins as zeros.
#pragma once

namespace plume {

// While alive, every block that the host's allocator hands out is filled with zeros first, so that what is
// read without having been written does not depend on what the memory was before. For counting kernels of
// which only some blocks are run; not nested.
class ZeroedBlocks {
 public:
  ZeroedBlocks();
  ~ZeroedBlocks();
  ZeroedBlocks(const ZeroedBlocks&) = delete;
  ZeroedBlocks& operator=(const ZeroedBlocks&) = delete;
};

}  // namespace plume
