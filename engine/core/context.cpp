#include "engine/core/context.h"

namespace plume {

Context& context(Device device) {
  static Context contexts[kDeviceCount] = {Context(Device::cpu), Context(Device::cuda),
                                           Context(Device::simt)};
  return contexts[size_t(device)];
}

}  // namespace plume
