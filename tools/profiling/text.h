// What `profile` prints: tables of 120 columns.
#pragma once
#include <string>

#include "tools/profiling/profile.h"

namespace plume::tools {

// Two lines: what the machine can do at most.
void print_ceilings(const Ceilings& ceilings, const std::string& machine, Device device);
// The step, memory, totals by class, and the `most` slowest calls (0: all of them, in order of execution).
void print_report(const ProfileReport& report, const Ceilings& ceilings, size_t most);
// The calls of one slot, with those nested in them, in two runs that differ in the variant preferred for it.
void print_comparison(const ProfileReport& a, const ProfileReport& b, const std::string& slot);

// "dense", "1x1", ...: for people.
const char* label(CallClass kind);
// "conv2d.backward_input/onednn"; forward passes are not named.
std::string operation_label(const ProfileCall& call);
// "56x56x64 > 28x28x128": what is read first and what is written last, without the batch.
std::string shape_label(const ProfileCall& call, int64_t batch);
std::string layer_label(const std::string& scope);  // "(network)" for the root
std::string describe(const ProfileRequest& request);

}  // namespace plume::tools
