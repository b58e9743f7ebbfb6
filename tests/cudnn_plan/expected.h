// What must become of each class of convolutions.
#pragma once
#include <string>
#include <vector>

#include "tests/cudnn_plan/survey.h"

namespace plume::test {

enum class How {
  ready,     // one plan, of kernels that cuDNN brings along
  compiled,  // one plan, of kernels compiled at run time
  planned,   // one plan, some of one kind and some of the other
  sums,      // cuDNN's f32 sums, and a kernel of ours behind them
  none       // another variant has to do it
};
const char* name(How how);

struct Expected {
  std::string starts, contains;  // of the class's name
  std::string arithmetics;       // "f32 tf32"
  How how;
  std::string pattern;  // cuDNN's name for the graphs of whole plans
  double workspace;     // MiB at most
};
const std::vector<Expected>& expectations();  // the first that fits counts
const Expected* expected_of(const Class& one, Arithmetic arithmetic);

// Empty, or what is wrong.
std::string difference(const Answer& answer, const Expected& expected);

}  // namespace plume::test
