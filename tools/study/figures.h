// The figures of a study's report: bars as in the paper, accuracy against cost, and bars of each ablation.
#pragma once
#include "tools/study/results.h"

namespace plume::tools {

// In the order of the page; report.h describes a figure.
Json study_figures(const StudyResults& results);

}  // namespace plume::tools
