// Factors from SI units to those that tables print.
#pragma once

namespace plume::tools {

inline constexpr double kPercent = 100, kMillion = 1e-6, kGiga = 1e-9, kMicro = 1e6, kMilli = 1e3;

}  // namespace plume::tools
