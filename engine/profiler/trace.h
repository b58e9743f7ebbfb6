// Measured passes in the format of Chrome's tracing and Perfetto (ui.perfetto.dev), JSON.
//
// Lanes: on the host the passes, in them the modules as their scopes nest, in them the calls; on the device
// the kernels (cuda), or what the calls themselves ran (host devices, which work while the host waits).
// Format: "Trace Event Format", complete events, times in microseconds.
#pragma once
#include <string>
#include <vector>

#include "engine/profiler/profiler.h"

namespace plume {

// The last `passes` of them. `device` names the device's lane, `what` the passes ("mobilenet_v3_small
// inference").
std::string chrome_trace(const Profiler& profiler, size_t passes, const std::string& device,
                         const std::string& what);

}  // namespace plume
