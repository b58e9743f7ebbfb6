// Which variants ran inside check_op.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/device.h"

namespace plume::test {

void remember_run(const std::string& slot, Device device, const std::string& variant);
// From now on no variant of a vendor's library is checked, nor run where a simpler one fits: on a GPU cuDNN
// compiles kernels for the shapes of the tests, which takes minutes.
void leave_out_vendors();
bool is_under_test(std::string_view variant);
// "slot variant on device", for each registered variant of the devices that is under test and that check_op
// never ran.
std::vector<std::string> variants_never_run(const std::vector<Device>& devices);

}  // namespace plume::test
