// A program's command line: strict flags and their ranges.
#pragma once
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

// The library behind it is included by flags.cpp alone: it takes seconds to compile.
namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace plume::tools {

// The command line of a tool: declare flags, then parse(). Numbers are read whole and must be finite and
// within their range; a flag is neither abbreviated nor given twice.
class Flags {
 public:
  class Flag {
   public:
    Flag(CLI::Option* option) : option_(option) {}
    void required();

   private:
    CLI::Option* option_;
  };

  Flags(int argc, char** argv, const std::string& description);
  ~Flags();

  Flag text(const std::string& name, std::string& value, const std::string& help);
  Flag choice(const std::string& name, std::string& value, const std::vector<std::string>& allowed,
              const std::string& help);
  Flag whole(const std::string& name, int64_t& value, int64_t least, int64_t most, const std::string& help);
  Flag number(const std::string& name, double& value, double least, double most, const std::string& help);
  Flag on(const std::string& name, bool& value, const std::string& help);
  Flag list(const std::string& name, std::vector<std::string>& values, const std::string& help);
  // Words without a flag, any number of them; `name` is for the help text.
  void words(const std::string& name, std::vector<std::string>& values, const std::string& help);

  void parse();  // throws usage, or HelpShown
  bool given(const std::string& name) const;
  const std::string& tool() const { return tool_; }

 private:
  void refuse_unknown_and_repeated() const;

  int argc_;
  char** argv_;
  std::string tool_;
  std::unique_ptr<CLI::App> app_;
  std::set<std::string> repeatable_;
};

// Thrown for --help, which is no error.
struct HelpShown {};

// Throws usage: "--batch: '10x' is not a whole number from 1 to 65536".
int64_t parse_whole(const std::string& flag, const std::string& text, int64_t least, int64_t most);
double parse_number(const std::string& flag, const std::string& text, double least, double most);

}  // namespace plume::tools
