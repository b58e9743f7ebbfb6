// The curves of a run in its folder: metrics.jsonl (the source), metrics.csv and a TensorBoard event file.
#pragma once
#include <string>
#include <vector>

#include "tools/cli/json.h"

namespace plume::tools {

class MetricsFiles {
 public:
  static constexpr const char* kNames[] = {"metrics.jsonl", "metrics.csv", "events.out.tfevents.plume"};

  MetricsFiles(std::string folder) : folder_(std::move(folder)) {}

  // The line of an epoch; null when there is none.
  const Json* find(int64_t epoch) const;
  // Whether the last line is that of the test (epoch_report.h's result_line()).
  bool has_result() const;
  void forget_result();

  // Takes over the complete lines of an existing metrics.jsonl that belong to the first `epochs` epochs.
  void restore(int64_t epochs);
  // Writes all three files.
  void write();
  // One more epoch, or the test: a flat object that holds "epoch", "step" and "unix_time". Writes the files;
  // metrics.jsonl and metrics.csv atomically, the event file by appending, so that a TensorBoard that watches
  // goes on.
  void add(const Json& epoch);

 private:
  std::string path(const char* name) const;
  std::string csv() const;

  std::string folder_;
  std::vector<Json> lines_;
};

}  // namespace plume::tools
