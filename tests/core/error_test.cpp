#include "engine/core/error.h"

#include <gtest/gtest.h>

#include "engine/core/device.h"
#include "engine/core/dtype.h"
#include "engine/core/shape.h"
#include "engine/core/text.h"

namespace plume::error_test {
namespace {

TEST(Text, NamesFromADiskStayOnTheirLine) {
  EXPECT_EQ(printable("a\nb\tc\x1b[2J\x7f caf\xe9"), "a\\nb\\tc\\x1b[2J\\x7f caf\xe9");
  EXPECT_EQ(brief_list({"a"}), "'a'");
  EXPECT_EQ(brief_list({"a", "b", "c", "d", "e"}), "'a', 'b', 'c', 'd', 'e'");
  EXPECT_EQ(brief_list({"a", "b\n", "c", "d", "e", "f", "g"}), "'a', 'b\\n', 'c', 'd', 'e' and 2 more");
  // The first of more, and fewer of them.
  EXPECT_EQ(brief_list({"a", "b"}, "", 2), "a, b");
  EXPECT_EQ(brief_list({"a", "b"}, "", 9), "a, b and 7 more");
  EXPECT_EQ(brief_list({"a", "b", "c"}, "", 9, 2), "a, b and 7 more");
  EXPECT_EQ(brief_list({"a", "b", "c"}, "'", 0, 1), "'a' and 2 more");
}

TEST(Error, EveryKindHasItsExitCode) {
  EXPECT_EQ(Error(ErrorKind::internal, "x").exit_code(), 1);
  EXPECT_EQ(Error(ErrorKind::usage, "x").exit_code(), 2);
  EXPECT_EQ(Error(ErrorKind::bad_input, "x").exit_code(), 3);
  EXPECT_EQ(Error(ErrorKind::resource, "x").exit_code(), 4);
  EXPECT_EQ(Error(ErrorKind::numeric, "x").exit_code(), 5);
  EXPECT_EQ(Error("x").kind(), ErrorKind::usage);
}

TEST(Error, FailThrowsKindAndMessage) {
  try {
    fail(ErrorKind::bad_input, "{}: {} bytes, expected {}", "a.bin", 3, 4);
    FAIL() << "fail() returned";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_STREQ(error.what(), "a.bin: 3 bytes, expected 4");
  }
}

TEST(Error, MessageFormatsWhatTheEngineSpeaksOf) {
  EXPECT_EQ(message("{} {} on {}", DType::bf16, Shape{2, 3}, Device::simt), "bf16 [2, 3] on simt");
  EXPECT_EQ(message("{} {} {}", true, false, int64_t{-5}), "true false -5");
  EXPECT_EQ(message("{} {}", std::string("text"), std::string_view("view")), "text view");
}

TEST(Error, NumbersArePrintedShortAndReadBack) {
  EXPECT_EQ(message("{} {} {}", 0.1, 1e-5, 1.0 / 3.0), "0.1 1e-05 0.3333333333333333");
  EXPECT_EQ(message("{}", 0.5f), "0.5");
}

TEST(Error, BracesAreOrdinaryCharactersElsewhere) {
  EXPECT_EQ(message("{x} {", 1), "{x} {");
  EXPECT_EQ(message("{} {}", "only one"), "only one {}");  // a missing argument must not crash a message
  EXPECT_EQ(message("{}", "{}"), "{}");                    // arguments are not patterns
}

TEST(Error, CheckFormatsOnlyOnFailure) {
  int evaluated = 0;
  const auto count = [&] { return ++evaluated; };
  PLUME_CHECK(true, "{}", count());
  EXPECT_EQ(evaluated, 0);
  EXPECT_THROW(PLUME_CHECK(evaluated > 0, "weight has {} channels", count()), Error);
  EXPECT_EQ(evaluated, 1);
}

TEST(Text, NearestIsByEditDistance) {
  const std::vector<std::string> names{"resnet18", "squeezenet", "mobilenet"};
  EXPECT_EQ(nearest("resnet81", names), "resnet18");
  EXPECT_EQ(nearest("mobilnet", names), "mobilenet");
  EXPECT_EQ(nearest("squeeze", names), "squeezenet");
  EXPECT_EQ(nearest("anything", {}), "");
}

TEST(Device, NamesParseBack) {
  for (const Device device : {Device::cpu, Device::cuda, Device::simt})
    EXPECT_EQ(parse_device(name(device)), device);
  try {
    parse_device("gpu");
    FAIL() << "parsed";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "device 'gpu' is not one of cpu, cuda, simt");
  }
}

}  // namespace
}  // namespace plume::error_test
