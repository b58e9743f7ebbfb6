// Runs the cells of a study, each one once, whatever is killed or started beside it.
//
// A cell lives in OUT/cells/<id>/: `run` (train's run folder), log.txt (what train, evaluate and predict
// said), evaluation.json, explain/*.png, and at last cell.json, which is written atomically when the cell is
// finished. A process claims a cell by locking its file `lock`; its child processes hold the lock too, so
// that a cell whose study was killed stays claimed until its training has ended as well. A cell without
// cell.json goes on from its last checkpoint.
#pragma once
#include <string>
#include <vector>

#include "tools/cli/json_type.h"
#include "tools/study/plan.h"

namespace plume::tools {

struct StudyOptions {
  std::string out, data, weights, cache;  // folders
  std::vector<std::string> forwarded;     // flags for all programs: --device, --threads, --variant
  int64_t workers = -1;                   // of train; negative: its default
  int64_t latency_batch = 128, explained_images = 3;  // per cell
  double latency_seconds = 2;
  bool retry = false;  // run failed cells again
};

// The content of a cell.json:
//   "id", "model", "data", "start", "settings", "state" ("done", "failed", "weights missing"), "error",
//   "curve" [one object per epoch, train's metrics], "result" (train's: what it was selected on, what the
//   best and the last epoch came to), "evaluation" (evaluate's report, of the best epoch), "macs_224",
//   "seconds" (training and its evaluations), "peak_memory_bytes" {"train", "evaluate"}, "explanations" [...]
using CellResult = Json;

// The finished result; null when there is none yet. Throws usage when the cell was run with other settings,
// naming the first difference; a damaged file counts as none.
CellResult read_cell(const StudyCell& cell, const StudyOptions& options);

enum class CellOutcome { finished, claimed_elsewhere, interrupted };
// Claims and runs one cell. A cell that fails is finished: its result says why.
CellOutcome run_cell(const StudyCell& cell, const StudyOptions& options);

}  // namespace plume::tools
