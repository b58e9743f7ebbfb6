#include "engine/ops/epilogue.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/convolution.h"
#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(EpilogueTest, EveryCombinationOfParts) {
  for (const Shape& shape : odd_images())
    for (int parts = 0; parts < 16; ++parts)
      for (const Activation activation : {Activation::identity, Activation::relu, Activation::silu}) {
        const bool last = parts & 8;  // the residual
        const Shape channels{shape[3]};
        std::vector<Operand> inputs{{.name = "sums", .shape = shape, .dtype = DType::f32}};
        if (parts & 1) inputs.push_back({.name = "scale", .shape = channels, .dtype = DType::f32});
        if (parts & 2) inputs.push_back({.name = "shift", .shape = channels, .dtype = DType::f32});
        if (parts & 4) inputs.push_back({.name = "residual", .shape = shape});
        check_op({.slot = epilogue_apply,
                  .label = name(activation),
                  .inputs = inputs,
                  .outputs = {{"y", shape}},
                  .run =
                      [=](Context& c, Tensors& t) {
                        const Epilogue epilogue{t["scale"], t["shift"], t["residual"], activation, last};
                        epilogue_apply(c, t["sums"], epilogue, t["y"]);
                      },
                  .reference =
                      [=](Arrays& a) {
                        const reference::EpilogueArrays finish{a["scale"], a["shift"], a["residual"],
                                                               activation, last};
                        for (int64_t i = 0; i < a["y"].size(); ++i) {
                          Sum sum;
                          sum += a["sums"][i];
                          a["y"][i] = finish(sum, i % shape[3], i);
                        }
                      }});
      }
}

TEST(EpilogueTest, OutputMayBeTheSums) {
  const Shape shape{3, 7, 7, 16};
  check_op({.slot = epilogue_apply,
            .label = "in place",
            .inputs = {{.name = "shift", .shape = {16}, .dtype = DType::f32}},
            .updated = {{.name = "y", .shape = shape, .dtype = DType::f32}},
            .outputs = {},
            .run =
                [](Context& c, Tensors& t) {
                  epilogue_apply(c, t["y"], {.shift = t["shift"], .activation = Activation::relu}, t["y"]);
                },
            .reference =
                [](Arrays& a) {
                  for (int64_t i = 0; i < a["y"].size(); ++i)
                    a["y"][i] = reference::activate(Activation::relu, a["y"][i] + a["shift"][i % 16]);
                },
            .dtypes = {DType::f32}});
}

}  // namespace
}  // namespace plume::test
