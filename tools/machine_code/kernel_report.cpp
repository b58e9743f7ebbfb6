#include "tools/machine_code/kernel_report.h"

#include <regex>
#include <sstream>

#include "engine/core/error.h"
#include "engine/files/read_file.h"

namespace plume::tools {

std::string short_kernel_name(const std::string& kernel) {
  static const std::pair<std::regex, const char*> kRules[] = {
      {std::regex(R"(\{anonymous\}::|\(anonymous namespace\)::|<unnamed>::)"), ""},
      {std::regex(R"(\b(plume|simt_kernels|cuda_kernels)::)"), ""},
      {std::regex(R"(\((int|unsigned int|bool)\))"), ""},
      {std::regex(R"(\btrue\b)"), "1"},
      {std::regex(R"(\bfalse\b)"), "0"},
      {std::regex(R"(> >)"), ">>"},
      {std::regex(R"(^\s+|\s+$)"), ""}};
  std::string name = kernel;
  for (const auto& [pattern, by] : kRules) name = std::regex_replace(name, pattern, by);
  return name;
}

std::map<std::string, CompiledKernel> read_kernel_report(const std::string& path, const std::string& arch) {
  constexpr int64_t kMostBytes = 8 << 20;
  constexpr size_t kMostLine = 4096;  // std::regex takes stack for every character
  const std::vector<uint8_t> bytes = read_small_file(path, kMostBytes, "the table of tools/kernel_report.sh");
  std::istringstream lines(std::string(bytes.begin(), bytes.end()));
  static const std::regex row(R"(^(.+?)\s*\|\s*(\d+) \|\s*(\d+) \|\s*\d+ \|\s*\d+ \|\s*(\d+)/(\d+)\s*$)");
  static const std::regex frame(R"(^kernel +\| arch.*|^\d+ kernels, \d+ with spills$|^\s*$)");
  std::map<std::string, CompiledKernel> report;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::smatch match;
    const bool fits = line.size() <= kMostLine;
    if (fits && std::regex_match(line, match, row)) {
      if (match[2] == arch)
        report[short_kernel_name(match[1])] = {std::stod(match[3]),
                                               std::stod(match[4]) + std::stod(match[5])};
    } else if (!fits || !std::regex_match(line, frame)) {
      fail(ErrorKind::bad_input, "{}:{}: expected a row of tools/kernel_report.sh, found '{}'", path, number,
           line.substr(0, 40));
    }
  }
  PLUME_CHECK(!report.empty(), "--registers: {} has no kernel of architecture {}", path, arch);
  return report;
}

size_t set_registers(std::vector<CountedLaunch>& launches,
                     const std::map<std::string, CompiledKernel>& report) {
  size_t unknown = 0;
  for (CountedLaunch& launch : launches) {
    const auto found = report.find(short_kernel_name(launch.kernel));
    if (found == report.end())
      ++unknown;
    else
      launch.registers = found->second.registers;
  }
  return unknown;
}

}  // namespace plume::tools
