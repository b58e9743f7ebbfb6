// Which variants ran inside check_op.
#pragma once
#include <string>
#include <vector>

#include "engine/core/device.h"

namespace plume::test {

void remember_run(const std::string& slot, Device device, const std::string& variant);
// "slot variant on device", for each registered variant of the devices that check_op never ran.
std::vector<std::string> variants_never_run(const std::vector<Device>& devices);

}  // namespace plume::test
