// A profile as pictures: SVG, readable in every browser, names and figures on hover.
#pragma once
#include <string>

#include "tools/profiling/profile.h"

namespace plume::tools {

// Throws usage unless the machine's ceilings are known for the network's dtype: a roofline needs them.
void check_roofline(const ProfileRequest& request, const Ceilings& ceilings);

// Achieved FLOP/s over FLOPs per byte, both logarithmic, under the roofs of the copy bandwidth and the peak
// of the network's dtype; a dot per layer and operation, its area by its share of the step. Operations
// with hardly any multiply-adds have no place on it.
// Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
std::string roofline_svg(const ProfileReport& report, const Ceilings& ceilings);

// A bar per layer in the order of execution, its length the time, parted by the class of work; backward
// passes lighter.
std::string layers_svg(const ProfileReport& report, const Ceilings& ceilings);

}  // namespace plume::tools
