// What every program has in common: one-line errors with exit codes, the choice of a device.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/error.h"
#include "tools/cli/flags.h"

namespace plume::tools {

// --device, --variant, --threads.
class DeviceFlags {
 public:
  explicit DeviceFlags(Flags& flags);
  // Opens the device, forces variants and sets the number of threads. Where no device was asked for, it is
  // `otherwise`, or without that one that stderr is told of. Throws usage or resource.
  Device open(const std::string& otherwise = "");

 private:
  Flags& flags_;
  std::string device_;
  std::vector<std::string> variants_;
  int64_t threads_ = 0;
};

// "train: message" on stderr; of several ranks the first speaks.
void log_line(const std::string& line);

// Text as it may stand in a log: white space is blanks, other control characters, which names of files may
// hold, are written as "\x1b"; cut off where it is longer than any message.
std::string one_line(const std::string& text);

// Runs the body and turns whatever it throws into one line on stderr and an exit code of ErrorKind, also what
// another thread throws and nobody catches. What libraries throw of files and JSON is bad input, of memory,
// threads and disks a missing resource; the rest is internal. A rank of several then ends the others, which
// would wait for it.
int run_tool(int argc, char** argv, const std::string& description, const std::function<int(Flags&)>& body);

}  // namespace plume::tools
