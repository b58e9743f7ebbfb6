// Which images a run is selected on.
#include "tools/training/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "data/sets/synthetic.h"
#include "tests/support/test_support.h"
#include "tools/cli/json_fields.h"

namespace plume::tools::selection_test {
namespace {

using testing::HasSubstr;

std::shared_ptr<const data::Dataset> drawn_training_images(int64_t count) {
  return data::make_synthetic(data::Split::train, {.count = count});
}

std::set<const uint8_t*> images_of(const data::Dataset& set) {
  std::set<const uint8_t*> images;
  for (int64_t i = 0; i < set.size(); ++i) images.insert(set.get(i).pixels.data());
  return images;
}

std::string why_not_selected(const Recipe& recipe, int64_t images) {
  try {
    select_images(recipe, drawn_training_images(images), nullptr);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "";
}

TEST(SelectionTest, HoldsImagesOutOfTheTrainingSet) {
  const auto whole = drawn_training_images(500);
  for (const char* validation : {"auto", "0.1", "50"}) {
    SCOPED_TRACE(validation);
    const Selection s = select_images({.validation = validation}, whole, nullptr);
    ASSERT_NE(s.validation_set, nullptr);
    EXPECT_EQ(s.validation_set->size(), 50);
    EXPECT_EQ(s.images(), 50);
    EXPECT_EQ(s.train_set->size(), 450);
    EXPECT_STREQ(s.set(), "validation");
    EXPECT_EQ(s.about, "50 validation images (10 % of the training set)");
    std::set<const uint8_t*> all = images_of(*s.train_set);
    all.merge(images_of(*s.validation_set));
    EXPECT_EQ(all, images_of(*whole));  // 450 and 50 of 500: none is in both
  }
}

TEST(SelectionTest, IsTheSameForEveryNetworkAndAnotherForAnotherSeed) {
  const auto whole = drawn_training_images(500);
  const auto chosen = [&](const Recipe& recipe) {
    return images_of(*select_images(recipe, whole, nullptr).validation_set);
  };
  const auto first = chosen({.model = "resnet18", .validation = "0.2"});
  EXPECT_EQ(chosen({.model = "squeezenet1_1", .epochs = 99, .batch = 7, .lr = 1, .validation = "100"}),
            first);
  EXPECT_NE(chosen({.validation = "0.2", .seed = 2}), first);
}

TEST(SelectionTest, LimitsCutFirst) {
  const auto whole = drawn_training_images(500);
  const Selection s = select_images({.validation = "0.1", .limit_train = 200}, whole, nullptr);
  EXPECT_EQ(s.validation_set->size(), 20);
  EXPECT_EQ(s.train_set->size(), 180);
  EXPECT_EQ(s.train_limit, 0);
  const Selection none = select_images({.validation = "0", .limit_train = 200}, whole, nullptr);
  EXPECT_EQ(none.validation_set, nullptr);
  EXPECT_EQ(none.train_set, whole);
  EXPECT_EQ(none.train_limit, 200);
  EXPECT_STREQ(none.set(), "test");
}

TEST(SelectionTest, TheSplitValServesUnlessImagesAreAskedFor) {
  const auto whole = drawn_training_images(500), val = drawn_training_images(80);
  const OpenValidation open = [&] { return val; };
  const Selection s = select_images({.limit_test = 30}, whole, open);
  EXPECT_EQ(s.validation_set, val);
  EXPECT_EQ(s.images(), 30);
  EXPECT_EQ(s.train_set, whole);
  EXPECT_THAT(s.about, HasSubstr("30 validation images (the split val)"));
  const OpenValidation never = []() -> std::shared_ptr<const data::Dataset> {
    ADD_FAILURE() << "nobody asked for val";
    return nullptr;
  };
  EXPECT_EQ(select_images({.validation = "0.1"}, whole, never).validation_set->size(), 50);
  EXPECT_EQ(select_images({.validation = "0"}, whole, never).validation_set, nullptr);
}

TEST(SelectionTest, FewImages) {
  // 25 images of 10 classes: a tenth would leave most classes out. Who asked for nothing gets one of each.
  EXPECT_EQ(select_images({}, drawn_training_images(25), nullptr).images(), 10);
  EXPECT_THAT(why_not_selected({.validation = "5"}, 100), HasSubstr("--validation 5: 5 of the 100 training"));
  EXPECT_THAT(why_not_selected({.validation = "5"}, 100), HasSubstr("each of 10 classes"));
  EXPECT_THAT(why_not_selected({.validation = "5"}, 100), HasSubstr("give 10 to 90, or 0"));
  EXPECT_THAT(why_not_selected({.validation = "0.05"}, 100), HasSubstr("give 10 to 90"));
  EXPECT_THAT(why_not_selected({.validation = "91"}, 100), HasSubstr("give 10 to 90"));
  EXPECT_THAT(why_not_selected({.validation = "0.1"}, 10),
              HasSubstr("no class has two; give --validation 0"));
  EXPECT_EQ(select_images({}, drawn_training_images(10), nullptr).validation_set, nullptr);
}

TEST(SelectionTest, Values) {
  EXPECT_TRUE(parse_validation("auto").automatic);
  EXPECT_EQ(parse_validation("0.25").share, 0.25);
  EXPECT_EQ(parse_validation("5000").count, 5000);
  EXPECT_EQ(parse_validation("0").share + double(parse_validation("0").count), 0);
  for (const char* text : {"1", "1.0", "-1", "2.5", "", "ten", "nan", "1e400", "auto,", "0.1x"})
    EXPECT_THROW(parse_validation(text), Error) << text;
}

// A run of a version without validation images was selected on what it was measured on.
TEST(SelectionTest, OlderFilesMeanNone) {
  Json json = to_json(recipe_fields(), Recipe{});
  EXPECT_EQ(json["validation"], "auto");
  json.erase("validation");
  const Recipe old = from_complete_json(recipe_fields(), json, "old.safetensors", recipe_of_older_files());
  EXPECT_EQ(old.validation, "0");
  const test::TemporaryFolder folder;
  const auto read = [&](const Json& file) {
    test::write_file(folder.file("settings.json"), to_text(file));
    Recipe recipe;
    RunOptions options;
    read_config(folder.file("settings.json"), recipe, options);
    return recipe.validation;
  };
  EXPECT_EQ(read({{"recipe", json}, {"run", Json::object()}}), "0");  // a run's config.json
  EXPECT_EQ(read({{"recipe", json}}), "auto");                        // settings of people
  EXPECT_EQ(read(json), "auto");
  EXPECT_EQ(read({{"validation", 0.25}}), "0.25");
  EXPECT_EQ(read({{"validation", 500}}), "500");
  EXPECT_EQ(read({{"validation", "auto"}}), "auto");
}

}  // namespace
}  // namespace plume::tools::selection_test
