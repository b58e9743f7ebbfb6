// Doubles become f32: to the nearest, and never infinite unless they were.
#include "engine/serialization/double_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/serialization/weights.h"
#include "tests/serialization/torch_writer.h"
#include "tests/support/test_support.h"

namespace plume::double_precision_test {
namespace {

using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string safetensors_of(const std::vector<double>& values) {
  std::string header = R"({"w":{"dtype":"F64","shape":[)" + std::to_string(values.size()) +
                       R"(],"data_offsets":[0,)" + std::to_string(8 * values.size()) + "]}}";
  std::string bytes = test::raw(uint64_t(header.size())) + header;
  for (const double v : values) bytes += test::raw(v);
  return bytes;
}

// Its elements in turn, twice over: contiguous, and as the columns of a matrix.
std::string torch_of(const std::vector<double>& values, const std::vector<int64_t>& size,
                     const std::vector<int64_t>& stride) {
  std::string record;
  for (const double v : values) record += test::raw(v);
  const std::string storage = test::storage("Double", "0", int64_t(values.size()));
  const std::string pickle =
      test::pickle_of(test::dict(test::text("w") + test::tensor(storage, 0, size, stride)));
  return test::zip_of(
      {{.name = "top/data.pkl", .content = pickle}, {.name = "top/data/0", .content = record}});
}

class DoublePrecision : public testing::Test {
 protected:
  std::vector<float> read(const std::string& bytes) {
    test::write_file(path_, bytes);
    const Weights weights = open_weights(path_);
    EXPECT_EQ(std::string(weights.tensors.at(0).type->name), "F64");
    const Tensor tensor = weights.tensors.at(0).read();
    EXPECT_EQ(tensor.dtype(), DType::f32);
    return tensor.to_vector<float>();
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_.file("double");
};

TEST_F(DoublePrecision, RoundsToTheNearest) {
  std::vector<double> values = {0, -0.0, 1.0 / 3, 1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-40, 1e-50, 3.4028234e38};
  values.insert(values.end(), {0x1.fffffep127, 0x1.fffffeffffp127, kInfinity, -kInfinity, NAN});
  for (const std::string& bytes : {safetensors_of(values), torch_of(values, {int64_t(values.size())}, {1})}) {
    const std::vector<float> found = read(bytes);
    ASSERT_EQ(found.size(), values.size());
    for (size_t i = 0; i + 1 < values.size(); ++i) EXPECT_EQ(found[i], float(values[i])) << i;
    EXPECT_TRUE(std::signbit(found[1]));
    EXPECT_EQ(found[3], 1.0f);
    EXPECT_GT(found[4], 1.0f);
    EXPECT_TRUE(std::isnan(found.back()));
  }
}

TEST_F(DoublePrecision, ManyAndStrided) {
  std::vector<double> values;
  for (int i = 0; i < 20'000; ++i) values.push_back(i / 7.0);
  const std::vector<float> plain = read(safetensors_of(values));
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(plain[i], float(values[i])) << i;
  const std::vector<float> columns = read(torch_of(values, {2, 10'000}, {1, 2}));
  for (size_t i = 0; i < 10'000; ++i) {
    ASSERT_EQ(columns[i], float(values[2 * i]));
    ASSERT_EQ(columns[10'000 + i], float(values[2 * i + 1]));
  }
}

TEST_F(DoublePrecision, NeverBecomesInfinite) {
  for (const double huge : {0x1.ffffffp127, 1e39, -1e300}) {
    const std::vector<double> values = {1, huge};
    for (const std::string& bytes :
         {safetensors_of(values), torch_of(values, {2}, {1}), torch_of(values, {2, 1}, {1, 2})}) {
      try {
        read(bytes);
        ADD_FAILURE() << huge;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::bad_input);
        EXPECT_THAT(error.what(), HasSubstr(path_ + ": tensor 'w': BeyondF32: element 1 is "));
      }
    }
  }
}

}  // namespace
}  // namespace plume::double_precision_test
