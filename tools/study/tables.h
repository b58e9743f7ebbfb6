// The tables of a study's report: accuracy and cost for each data set, pretrained against scratch, ablations,
// all cells.
#pragma once
#include "tools/study/results.h"

namespace plume::tools {

// In the order of the page; report.h describes a table.
Json study_tables(const StudyResults& results);

}  // namespace plume::tools
