#include "engine/ops/sum_rows.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

void check(const Shape& shape, const Fill& fill) {
  check_op({.slot = sum_rows_forward,
            .inputs = {{"x", shape, fill}},
            .outputs = {{.name = "out", .shape = {shape[-1]}, .dtype = DType::f32}},
            .run = [](Context& c, Tensors& t) { sum_rows_forward(c, t["x"], t["out"]); },
            .reference = [](Arrays& a) { reference::sum_rows(a["x"], a["out"]); }});
}

TEST(SumRowsTest, Images) {
  for (const Shape& shape : odd_images()) check(shape, outliers());
}
TEST(SumRowsTest, Matrices) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 1000}, Shape{1000, 3}, Shape{129, 65}})
    check(shape, outliers());
}
TEST(SumRowsTest, LargeMean) { check({3, 31, 31, 17}, offset(1000)); }

}  // namespace
}  // namespace plume::test
