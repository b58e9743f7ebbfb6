// One call of a kernel slot in depth: its source with what each line asks of memory, as text and as a page.
#pragma once
#include <string>
#include <vector>

#include "tools/profiling/prediction.h"

namespace plume::tools {

// Which call of a network's pass: "depthwise_conv2d.forward", or with "/rows" its variant; `shape` is part of
// the shapes as tables show them ("14x14x960>", or empty).
struct KernelChoice {
  std::string kernel, shape;
};

// The first that fits. Throws usage, naming some that there are, when none does.
size_t find_call(const std::vector<ProfileCall>& calls, const KernelChoice& choice, int64_t batch);

// A line of the source beside its counts.
struct SourceLine {
  int number = 0;
  std::string text;
  KernelCounts counts;
};
// The lines of a file that were counted, with the one before and the one after each; `text` is empty where
// the file cannot be read. A gap in the numbers is a gap in the source.
struct SourceFile {
  std::string path;
  std::vector<SourceLine> lines;
};
std::vector<SourceFile> source_of(const CountedLaunch& launch);

// All launches of the call. Predictions are called predictions in both.
std::string kernel_text(const CountedPass& pass, size_t call, const GpuDescription& gpu, int64_t batch);
std::string kernel_page(const CountedPass& pass, size_t call, const GpuDescription& gpu, int64_t batch);

}  // namespace plume::tools
