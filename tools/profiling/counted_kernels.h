// The library with kernels that count, beside the one that programs are linked with.
#pragma once

namespace plume::tools {

// Where the simt device of this process does not count and the build has the other library: begins the
// program anew with that one, and does not return. Else does nothing.
void restart_with_counted_kernels();

}  // namespace plume::tools
