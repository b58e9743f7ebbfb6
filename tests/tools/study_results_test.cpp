// What a study's report says of cells that learnt nothing.
#include "tools/study/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/study/report.h"

namespace plume::tools::study_results_test {
namespace {

using testing::HasSubstr;
using testing::Not;

CellResult cell_with(double top1, int images, int classes) {
  const Json one_class = {{"class", "a"}};
  return {{"state", "done"},
          {"model", "resnet18"},
          {"data", "synthetic"},
          {"start", "scratch"},
          {"evaluation",
           {{"top1", top1}, {"images", images}, {"per_class", std::vector<Json>(classes, one_class)}}}};
}

// A tenth, and three standard deviations of 0.0134 on 500 images.
TEST(StudyResults, KnowGuessingFromLearning) {
  EXPECT_TRUE(CellFigures(cell_with(0.10, 500, 10)).at_chance());
  EXPECT_TRUE(CellFigures(cell_with(0.14, 500, 10)).at_chance());
  EXPECT_FALSE(CellFigures(cell_with(0.142, 500, 10)).at_chance());
  EXPECT_FALSE(CellFigures(cell_with(0.14, 5000, 10)).at_chance());
  EXPECT_FALSE(CellFigures(cell_with(0.14, 500, 100)).at_chance());
  EXPECT_FALSE(CellFigures(CellResult()).at_chance());  // not run
  EXPECT_EQ(state_of(cell_with(0.1, 500, 10)), "done, at chance");
  EXPECT_EQ(state_of(cell_with(0.9, 500, 10)), "done");
}

TEST(StudyResults, MarkedCellsAreExplainedAndNotBest) {
  StudyPlan plan;
  plan.title = "t";
  plan.cells = {{"a", "resnet18", "synthetic", false, {}}, {"b", "squeezenet1_1", "synthetic", false, {}}};
  plan.groups = {{"networks", "networks", true, {{"a", ""}, {"b", ""}}}};
  const Json report = study_report(plan, {cell_with(0.9, 500, 10), cell_with(0.11, 500, 10)}, "");
  EXPECT_EQ(report["chance"], Json({"b"}));
  const std::string markdown = report_as_markdown(report);
  EXPECT_THAT(markdown, HasSubstr("1 cell is at chance"));
  EXPECT_THAT(markdown, HasSubstr("| SqueezeNet 1.1 † |"));
  EXPECT_THAT(markdown, HasSubstr("† At chance: no better than guessing"));
  const Json learnt = study_report(plan, {cell_with(0.9, 500, 10), cell_with(0.8, 500, 10)}, "");
  EXPECT_TRUE(learnt["chance"].empty());
  EXPECT_THAT(report_as_markdown(learnt), Not(HasSubstr("chance")));
}

}  // namespace
}  // namespace plume::tools::study_results_test
