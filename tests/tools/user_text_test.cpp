// Text files as people's editors write them, and CSV as their programs read it.
#include "tests/tools/training_run.h"
#include "tools/cli/csv.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/config.h"
#include "tools/training/metrics.h"

namespace plume::test::user_text_test {
namespace {

constexpr const char* kMark = "\xEF\xBB\xBF";  // of UTF-8

// The message of the error that it throws, which must be bad input and short.
std::string refusal(const std::function<void()>& body) {
  constexpr size_t kShort = 400;
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
    EXPECT_LT(std::string(error.what()).size(), kShort);
    return error.what();
  }
  ADD_FAILURE() << "was read";
  return "";
}

TEST(UserTextTest, SettingsWithByteOrderMarkAndCarriageReturns) {
  const TemporaryFolder folder;
  const std::string path = folder.file("config.json");
  write_file(path, message("{}{}", kMark,
                           "{\r\n  \"epochs\": 7,\r\n  \"data_dir\": \"caf\xC3\xA9 \\\"x\\\"\"\r\n}\r\n"));
  tools::Recipe recipe;
  tools::RunOptions options;
  tools::read_config(path, recipe, options);
  EXPECT_EQ(recipe.epochs, 7);
  EXPECT_EQ(options.data_dir, "caf\xC3\xA9 \"x\"");
  const std::string latin1 = "{\"data_dir\": \"caf\xE9\"}", utf16("\xFF\xFE{\0}\0", 6),
                    endless = "{\"data_dir\": \"" + std::string(500'000, 'x');
  for (const std::string& text : {latin1, utf16, endless, std::string(kMark)}) {
    write_file(path, text);
    EXPECT_TRUE(
        contains(refusal([&] { tools::read_config(path, recipe, options); }), path + ": no JSON in UTF-8"));
  }
}

TEST(UserTextTest, LabelsWithByteOrderMarkAndCarriageReturns) {
  const TemporaryFolder folder;
  const std::string path = folder.file("labels.txt");
  write_file(path, message("{}{}", kMark, "caf\xC3\xA9\r\n\"tea\", hot\r\n"));
  EXPECT_EQ(tools::read_labels(path, 2), (Words{"caf\xC3\xA9", "\"tea\", hot"}));
  write_file(path, "caf\xE9\ntea\n");
  EXPECT_TRUE(contains(refusal([&] { tools::read_labels(path, 2); }), "not UTF-8"));
}

TEST(UserTextTest, CsvIsQuotedAsRfc4180Says) {
  EXPECT_EQ(tools::csv_cell("plain text"), "plain text");
  EXPECT_EQ(tools::csv_cell("a,b"), "\"a,b\"");
  EXPECT_EQ(tools::csv_cell("say \"hi\""), "\"say \"\"hi\"\"\"");
  EXPECT_EQ(tools::csv_cell("two\r\nlines"), "\"two\r\nlines\"");
  const TemporaryFolder folder;
  tools::MetricsFiles metrics(folder.file("."));
  metrics.add({{"epoch", 1}, {"step", 2}, {"unix_time", 3}, {"a,b", "say \"hi\", twice"}, {"none", nullptr}});
  EXPECT_EQ(read_file(folder.file("metrics.csv")),
            "epoch,step,unix_time,\"a,b\",none\n1,2,3,\"say \"\"hi\"\", twice\",\n");
}

}  // namespace
}  // namespace plume::test::user_text_test
