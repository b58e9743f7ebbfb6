// From places of the code to lines of the source.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "kernels/simt/count_trace.h"

namespace simt::emu {
namespace {

// Names live as long as the process: locations point to them.
const char* keep(const std::string& name) {
  static thread_local auto& names = *new std::set<std::string>;  // like the counters
  return names.insert(name).first->c_str();
}

void ask_addr2line(const std::string& binary, const std::vector<std::pair<uint64_t, uint64_t>>& places,
                   Locations& known) {
  constexpr size_t kAtOnce = 1000;
  for (size_t first = 0; first < places.size(); first += kAtOnce) {
    const size_t end = std::min(places.size(), first + kAtOnce);
    std::string command = "addr2line -e '" + binary + "'";
    char text[1024];
    for (size_t i = first; i < end; ++i) {
      std::snprintf(text, sizeof text, " 0x%lx", static_cast<unsigned long>(places[i].second - 1));
      command += text;
    }
    FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
    if (!pipe) return;
    for (size_t i = first; i < end && std::fgets(text, sizeof text, pipe); ++i) {
      const std::string line = text;
      const size_t colon = line.rfind(':');
      if (colon == std::string::npos || line[0] == '?') continue;
      known[places[i].first] = {keep(line.substr(0, colon)), std::atoi(line.c_str() + colon + 1)};
    }
    pclose(pipe);
  }
}

}  // namespace

void find_lines(const std::vector<CountingLaunch>& launches, Locations& known) {
  std::map<std::string, std::set<std::pair<uint64_t, uint64_t>>> unknown;  // by binary
  for (const CountingLaunch& launch : launches)
    for (const auto& [pc, counts] : launch.places) {
      Dl_info info{};
      if (pc == 0 || known.count(pc)) continue;
      if (!dladdr(reinterpret_cast<void*>(pc), &info) || !info.dli_fname) continue;
      unknown[info.dli_fname].insert({pc, pc - reinterpret_cast<uint64_t>(info.dli_fbase)});
    }
  for (const auto& [binary, places] : unknown) ask_addr2line(binary, {places.begin(), places.end()}, known);
}

plume::CountedLaunch finish(CountingLaunch& launch, const Locations& known) {
  plume::CountedLaunch result = std::move(launch.summary);
  std::map<std::pair<std::string, int>, plume::KernelCounts> lines;
  for (const auto& [pc, counts] : launch.places) {
    if (pc == 0) continue;
    const auto found = known.find(pc);
    std::pair<std::string, int> line{"", 0};
    if (found != known.end()) line = {found->second.file, found->second.line};
    const bool emulator = line.first.find("/kernels/simt/") != std::string::npos;
    if (emulator && counts.steps > 0) continue;
    lines[line] += counts;
  }
  for (auto& [line, counts] : lines) {
    result.counts += counts;
    result.places.push_back({line.first, line.second, counts});
  }
  return result;
}

}  // namespace simt::emu
