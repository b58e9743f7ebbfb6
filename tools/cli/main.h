// What every tool has in common: strict flags, one-line errors with exit codes, the choice of a device.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/error.h"

namespace plume::tools {

// The command line of a tool: declare flags, then parse(). Numbers are read whole and must be finite and
// within their range; a flag is neither abbreviated nor given twice.
class Flags {
 public:
  Flags(int argc, char** argv, const std::string& description);

  CLI::Option* text(const std::string& name, std::string& value, const std::string& help);
  CLI::Option* choice(const std::string& name, std::string& value, const std::vector<std::string>& allowed,
                      const std::string& help);
  CLI::Option* whole(const std::string& name, int64_t& value, int64_t least, int64_t most,
                     const std::string& help);
  CLI::Option* number(const std::string& name, double& value, double least, double most,
                      const std::string& help);
  CLI::Option* on(const std::string& name, bool& value, const std::string& help);
  CLI::Option* list(const std::string& name, std::vector<std::string>& values, const std::string& help);

  void parse();  // throws usage
  bool given(const std::string& name) const { return app_.count(name) > 0; }
  const std::string& tool() const { return tool_; }

 private:
  void refuse_unknown_and_repeated() const;

  int argc_;
  char** argv_;
  std::string tool_;
  CLI::App app_;
  std::set<std::string> repeatable_;
};

// --device, --variant, --threads.
class DeviceFlags {
 public:
  explicit DeviceFlags(Flags& flags);
  // Opens the device, forces variants and sets the number of threads; says on stderr which device is used
  // when none was asked for. Throws usage or resource.
  Device open();

 private:
  Flags& flags_;
  std::string device_;
  std::vector<std::string> variants_;
  int64_t threads_ = 0;
};

// Throws usage: "--batch: '10x' is not a whole number from 1 to 65536".
int64_t parse_whole(const std::string& flag, const std::string& text, int64_t least, int64_t most);
double parse_number(const std::string& flag, const std::string& text, double least, double most);

// "train: message" on stderr; of several ranks the first speaks.
void log_line(const std::string& line);

// Runs the body and turns what it throws into one line on stderr and an exit code. A rank of several then ends
// the others, which would wait for it.
int run_tool(int argc, char** argv, const std::string& description, const std::function<int(Flags&)>& body);

}  // namespace plume::tools
