#include "data/preprocessing.h"

#include <gmock/gmock.h>

#include "data/loader.h"
#include "data/sets/registry.h"
#include "tests/data/images/image_files.h"

namespace plume::data::preprocessing_test {
namespace {

namespace fs = std::filesystem;

DatasetInfo photos(int height = 0, int width = 0) {
  return {.name = "photos", .height = height, .width = width, .class_names = {"one"}, .any_size = true};
}
DatasetInfo squares(int side) {
  return {.name = "squares", .height = side, .width = side, .class_names = {"one"}};
}

// Shorter side, or 0 where whole images are squashed, and crop.
std::array<int64_t, 3> geometry(const Preprocessing& how) {
  return {how.squash ? 0 : how.resize, how.crop.height, how.crop.width};
}

TEST(Preprocessing, SizesFollowTheImages) {
  using Geometry = std::array<int64_t, 3>;
  EXPECT_EQ(geometry(preprocessing_for(squares(32), 0)), (Geometry{32, 32, 32}));
  EXPECT_EQ(geometry(preprocessing_for(squares(32), 224)), (Geometry{224, 224, 224}));
  EXPECT_EQ(geometry(preprocessing_for(squares(64), 56)), (Geometry{64, 56, 56}));
  EXPECT_EQ(geometry(preprocessing_for(photos(), 224)), (Geometry{256, 224, 224}));
  EXPECT_EQ(geometry(preprocessing_for(photos(64, 64), 64)), (Geometry{73, 64, 64}));
  EXPECT_EQ(geometry(preprocessing_for(photos(48, 30), 0)), (Geometry{30, 48, 30}));
  EXPECT_EQ(geometry(preprocessing_for(photos(), 96, true)), (Geometry{0, 96, 96}));
  EXPECT_THAT(refusal([] { preprocessing_for(photos(), 0); }, ErrorKind::usage),
              testing::HasSubstr("--image-size: the images of photos are of different sizes"));
  EXPECT_EQ(geometry(with_input_size(preprocessing_for(photos(), 224), 96)), (Geometry{110, 96, 96}));
  EXPECT_EQ(geometry(with_input_size(preprocessing_for(squares(32), 0), 224)), (Geometry{224, 224, 224}));
}

std::vector<Preprocessing> all_kinds() {
  Preprocessing how{.resize = 29, .crop = {24, 24}};
  std::vector<Preprocessing> kinds = {how};
  how.rotate180 = true;
  kinds.push_back(how);
  how.interpolation = Interpolation::bicubic;
  how.squash = true;
  kinds.push_back(how);
  how = {.resize = 30, .crop = {48, 30}, .statistics = {{0.1f, 0.2f, 0.3f}, {3, 2, 1}}};
  kinds.push_back(how);
  how.crop = {40, 64};  // larger than some images, which are framed in black
  how.rotate180 = true;
  kinds.push_back(how);
  return kinds;
}

TEST(Preprocessing, IsResizeCropRotationAndNormalisation) {
  for (const Preprocessing& how : all_kinds())
    for (const auto& [height, width] : {std::pair{48, 30}, {30, 48}, {17, 90}, {29, 29}}) {
      const Image image = noise(height, width, 7);
      const ImageSize size =
          how.squash ? how.crop : resized_to_shorter_side({image.height, image.width}, how.resize);
      const Image cropped = resize(image, size, center_window(size, how.crop), how.interpolation);
      const size_t values = cropped.pixels.size(), pixels = values / 3;
      std::vector<float> out(values);
      preprocess(image, how, out.data());
      for (size_t i = 0; i < values; ++i) {
        const size_t c = i % 3, from = how.rotate180 ? (pixels - 1 - i / 3) * 3 + c : i;
        const double x = cropped.pixels[from] / 255.0;
        const double expected = (x - double(how.statistics.mean[c])) / double(how.statistics.std[c]);
        ASSERT_NEAR(double(out[i]), expected, 2e-6) << height << "x" << width << " " << i;
      }
      const Image seen = as_seen(out.data(), how);
      EXPECT_EQ(seen.height, how.crop.height);
      EXPECT_EQ(seen.width, how.crop.width);
      EXPECT_EQ(seen.pixels.front(), cropped.pixels[how.rotate180 ? values - 3 : 0]);
    }
}

// A folder's images are reduced when they are packed; what is made of those is what is made of the files.
TEST(Preprocessing, OfPackedImagesIsThatOfTheFiles) {
  const test::TemporaryFolder folder;
  std::vector<Image> images;
  for (const auto& [height, width] : {std::pair{48, 30}, {30, 48}, {17, 90}, {29, 29}, {9, 200}, {3, 3}}) {
    images.push_back(noise(height, width, images.size()));
    const std::string name = message("train/a/{}.png", images.size());
    write_below(folder.path() / name, encode_png(images.back()));
  }
  for (const Preprocessing& how : all_kinds()) {
    OpenOptions options{.cache_dir = "/proc/no/such", .log = [](const std::string&) {}};
    if (how.crop.height == how.crop.width) {
      options.shorter_side = how.squash ? how.crop.height : how.resize;
      options.squash = how.squash;
      options.interpolation = how.interpolation;
    }
    const auto set = open_dataset("imagefolder", folder.path().string(), Split::train, options);
    EXPECT_EQ(set->height(), how.squash ? how.crop.height : 0);
    LoaderParams params{.batch_size = 6, .workers = 0, .augment = evaluation_augmentation(how)};
    Loader loader(set, params);
    loader.start(0);
    const Batch batch = loader.next().value();
    const size_t each = size_t(how.crop.height * how.crop.width * 3);
    for (size_t i = 0; i < images.size(); ++i) {
      std::vector<float> out(each);
      preprocess(images[i], how, out.data());
      const float* made = batch.images.data<float>() + i * each;
      EXPECT_EQ(std::vector<float>(made, made + each), out) << i;
    }
  }
}

TEST(Preprocessing, TrainingSeesTheSameScale) {
  const Dataset small(squares(4), std::vector<uint8_t>(48), {0});
  const auto crops = [&](const DatasetInfo& info, int64_t size, bool squash = false) {
    return training_augmentation(preprocessing_for(info, size, squash), small, {.padding = 3});
  };
  // Whole images: the crop with its padding is of the image itself.
  AugmentParams params = crops(squares(4), 8);
  EXPECT_FALSE(params.random_crop);
  EXPECT_EQ(params.resize_shorter, 0);
  EXPECT_EQ(params.crop_padding, 3);
  EXPECT_EQ(params.output_height, 8);
  params = crops(photos(), 8);
  EXPECT_TRUE(params.random_crop);
  EXPECT_EQ(params.resize_shorter, 9);
  params = crops(photos(), 8, true);
  EXPECT_FALSE(params.random_crop);
  EXPECT_EQ(params.resize_shorter, 0);
  params = training_augmentation(preprocessing_for(photos(), 8), small, {.random_resized = true});
  EXPECT_TRUE(params.random_resized_crop);
  EXPECT_EQ(params.crop_padding, 0);
}

TEST(Preprocessing, RotatedImagesLeaveOneOperationLess) {
  AugmentParams params{.rotate180 = true};
  params.policy = {Policy::randaugment, kMostImageOps - 1, 9};
  const Image image = noise(8, 6, 1);
  const Augmenter augmenter(8, 6, params);
  EXPECT_EQ(augmenter.picture({image.pixels, 8, 6, 0}, 0, 0).pixels.size(), image.pixels.size());
  params.policy.randaugment_ops = kMostImageOps;
  EXPECT_THAT(refusal([&] { Augmenter(8, 6, params); }, ErrorKind::usage), testing::HasSubstr("at most 3"));
}

TEST(Preprocessing, SetsAreKnownByName) {
  for (const std::string& name : dataset_names()) EXPECT_EQ(dataset_traits(name).name, name);
  const DatasetInfo synthetic = open_dataset("synthetic", "", Split::test, {.count = 1})->info();
  const DatasetInfo known = dataset_traits("synthetic");
  EXPECT_EQ(known.class_names, synthetic.class_names);
  EXPECT_EQ(known.statistics, synthetic.statistics);
  EXPECT_EQ(known.height, synthetic.height);
  EXPECT_TRUE(dataset_traits("imagefolder").any_size);
  EXPECT_EQ(dataset_traits("cifar100").class_names.size(), 100u);
}

}  // namespace
}  // namespace plume::data::preprocessing_test
