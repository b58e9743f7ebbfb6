// Folders of images as people have them.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "data/sets/folder_walk.h"
#include "data/sets/image_source.h"
#include "data/sets/registry.h"
#include "tests/data/sets/listed_files.h"

namespace plume::data::image_folder_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ImageFolder : public testing::Test {
 protected:
  ImageFolder() {
    for (const char* name :
         {"train/dog/a.jpg", "train/dog/b.PNG", "train/cat/z.jpeg", "val/cat/1.JPEG", "val/dog/2.png"})
      write(name);
  }
  void write(const std::string& name) { write_below(folder_.path() / name, "x"); }
  void remove(const std::string& name) { fs::remove_all(folder_.path() / name); }
  void rename(const std::string& from, const std::string& to) {
    fs::rename(folder_.path() / from, folder_.path() / to);
  }
  std::string dir() const { return folder_.path().string(); }
  ImageSource list(Split split) const { return list_image_folder(dir(), split); }
  std::string error(Split split) const {
    return refusal([&] { list(split); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(ImageFolder, ClassesAreSortedFolders) {
  write("train/dog/.hidden.jpg");
  write("train/.cache/a.jpg");
  const ImageSource train = list(Split::train), val = list(Split::val);
  EXPECT_THAT(train.info.class_names, ElementsAre("cat", "dog"));
  EXPECT_THAT(paths(train), ElementsAre("train/cat/z.jpeg", "train/dog/a.jpg", "train/dog/b.PNG"));
  EXPECT_THAT(labels(train), ElementsAre(0, 1, 1));
  EXPECT_EQ(train.info.height, 0);
  EXPECT_TRUE(train.info.any_size);
  EXPECT_EQ(train.info.folder, dir() + "/train");
  EXPECT_THAT(train.info.left_out, IsEmpty());
  EXPECT_THAT(train.notes, IsEmpty());
  EXPECT_THAT(paths(val), ElementsAre("val/cat/1.JPEG", "val/dog/2.png"));
  EXPECT_EQ(val.info.class_names, train.info.class_names);
}

TEST_F(ImageFolder, ASplitIsTheOneThatIsNamed) {
  write("test/cat/3.png");
  write("test/dog/4.png");
  EXPECT_THAT(paths(list(Split::val)), ElementsAre("val/cat/1.JPEG", "val/dog/2.png"));
  EXPECT_THAT(paths(list(Split::test)), ElementsAre("test/cat/3.png", "test/dog/4.png"));
  const MeasuredSplit both = measured_split("imagefolder", dir());
  EXPECT_EQ(both.split, Split::test);
  EXPECT_THAT(both.note, HasSubstr("has val and test: test is measured"));
  remove("val");
  EXPECT_THAT(error(Split::val), HasSubstr("has no folder val; it has 'test', 'train'"));
  EXPECT_EQ(measured_split("imagefolder", dir()).split, Split::test);
  EXPECT_EQ(measured_split("imagefolder", dir()).note, "");
  rename("test", "validation");
  EXPECT_THAT(error(Split::test), HasSubstr("has no folder test; it has 'train', 'validation'"));
  EXPECT_EQ(measured_split("imagefolder", dir()).split, Split::val);
  EXPECT_THAT(measured_split("imagefolder", dir()).note, HasSubstr("has no test: val is measured"));
  remove("validation");
  EXPECT_EQ(list(Split::train).files.size(), 3u);
  EXPECT_THAT(refusal([&] { measured_split("imagefolder", dir()); }), HasSubstr("has no folder val or test"));
}

TEST_F(ImageFolder, OtherSetsHaveTheirOwnSplits) {
  EXPECT_EQ(measured_split("cifar10", "/x").split, Split::test);
  EXPECT_EQ(measured_split("synthetic", "").split, Split::test);
  EXPECT_EQ(measured_split("tiny-imagenet", "/x").split, Split::val);
  EXPECT_THAT(splits_of("cifar100", "/x"), ElementsAre(Split::train, Split::test));
}

TEST_F(ImageFolder, SplitsHaveOtherNamesToo) {
  rename("val", "Valid");
  rename("train", "Training");
  EXPECT_THAT(paths(list(Split::val)), ElementsAre("Valid/cat/1.JPEG", "Valid/dog/2.png"));
  EXPECT_EQ(list(Split::train).files.size(), 3u);
  EXPECT_THAT(image_folder_splits(dir()), ElementsAre(Split::train, Split::val));
  write("validation/cat/1.png");
  EXPECT_THAT(error(Split::val), HasSubstr("has 'Valid', 'validation': which one is the val split?"));
  EXPECT_EQ(list(Split::train).files.size(), 3u);
}

// The same files in the same order within a class as torchvision 0.14's ImageFolder gives.
TEST_F(ImageFolder, FoldersWithinAClassBelongToIt) {
  remove("train/dog");
  for (const char* name : {"b/1.png", "a.png", "a/2.png", "a/c/3.png", "a-b/4.png", "z.png"})
    write(std::string("train/dog/") + name);
  write("train/dog/.git/5.png");
  write("train/cat/images/a.png");
  remove("train/cat/z.jpeg");
  const ImageSource train = list(Split::train);
  EXPECT_THAT(paths(train),
              ElementsAre("train/cat/images/a.png", "train/dog/a.png", "train/dog/z.png", "train/dog/a/2.png",
                          "train/dog/a-b/4.png", "train/dog/a/c/3.png", "train/dog/b/1.png"));
}

TEST_F(ImageFolder, CountsByKindWhatIsLeftOut) {
  for (const char* name : {"dog/1.webp", "dog/2.WEBP", "dog/in/3.webp", "cat/1.tif", "cat/readme",
                           "notes.txt", "a.jpg", "cat/x.jpg~", "cat/y.verylongname", "cat/.hidden.webp"})
    write(std::string("train/") + name);
  for (const char* name : {"1.bmp", "2.ppm", "3.pgm", "4.pnm", "5.jpe", "6.JFIF"})
    write(std::string("train/cat/") + name);
  const ImageSource train = list(Split::train);
  EXPECT_EQ(train.files.size(), 9u);
  EXPECT_EQ(to_line(train.info.left_out),
            "3 .webp, 2 other, 1 .tif, 1 .txt, 1 outside class folders and 1 more");
  EXPECT_THAT(list(Split::val).info.left_out, IsEmpty());
}

TEST_F(ImageFolder, ManyKindsAreCountedTogether) {
  std::vector<LeftOut> kinds;
  for (const char* kind : {".a", ".b", ".c", ".d", ".e", ".f", ".g"}) kinds.push_back({kind, 2});
  EXPECT_EQ(to_line(kinds), "2 .a, 2 .b, 2 .c, 2 .d, 2 .e and 4 more");
}

TEST_F(ImageFolder, LabelsAreTrainsByName) {
  remove("val/cat");
  const ImageSource val = list(Split::val);
  EXPECT_THAT(val.info.class_names, ElementsAre("cat", "dog"));
  EXPECT_THAT(labels(val), ElementsAre(1));
  EXPECT_THAT(val.notes, ElementsAre(HasSubstr("/val: has no images of 'cat'")));
  fs::create_directories(folder_.path() / "val/cat");
  EXPECT_THAT(labels(list(Split::val)), ElementsAre(1));
  EXPECT_THAT(labels(list_image_folder(dir(), Split::val, {"dog", "cat", "bird"})), ElementsAre(0));
  remove("val/dog");
  EXPECT_THAT(error(Split::val), HasSubstr("/val: has no images, expected *.jpg, *.jpeg"));
  remove("train");
  write("val/dog/1.png");
  write("val/cat/1.png");
  EXPECT_THAT(labels(list(Split::val)), ElementsAre(0, 1));  // by itself
}

TEST_F(ImageFolder, RefusesClassesWithoutALabel) {
  fs::create_directories(folder_.path() / "val/empty");  // is no class
  EXPECT_EQ(list(Split::val).files.size(), 2u);
  write("val/bird/1.png");
  EXPECT_THAT(error(Split::val), AllOf(HasSubstr("/val: has a class that "), HasSubstr("/train has not: "),
                                       HasSubstr("'bird'; remove or rename it")));
  EXPECT_EQ(list(Split::train).files.size(), 3u);
  for (int i = 0; i < 7; ++i) write("val/x" + std::to_string(i) + "/1.png");
  EXPECT_THAT(error(Split::val),
              AllOf(HasSubstr("has 8 classes"), HasSubstr("'bird', 'x0', 'x1', 'x2', 'x3' and 3 more")));
  EXPECT_THAT(refusal([&] { list_image_folder(dir(), Split::train, {"cat"}); }),
              HasSubstr("/train: has a class that the network has not: 'dog'"));
}

TEST_F(ImageFolder, RefusesFoldersWithoutImages) {
  remove("train/cat/z.jpeg");
  EXPECT_THAT(error(Split::train), HasSubstr("train/cat: has no images, expected *.jpg, *.jpeg"));
  write("train/cat/z.webp");
  write("train/cat/z.gif");
  EXPECT_THAT(error(Split::train), HasSubstr("; left out: 1 .gif, 1 .webp"));
  remove("train");
  write("train/a.jpg");
  EXPECT_THAT(error(Split::train), HasSubstr("/train: has no folders, expected one per class"));
  remove("train");
  write("train");
  EXPECT_THAT(error(Split::train), HasSubstr("has no folder train; it has 'val'"));
  EXPECT_THAT(refusal([&] { list_image_folder(dir() + "/none", Split::train); }),
              HasSubstr("no such folder"));
  EXPECT_THAT(refusal([&] { list_image_folder(dir() + "/val/cat/1.JPEG", Split::train); }),
              HasSubstr("is not a folder"));
}

TEST_F(ImageFolder, FollowsLinksButNotInCircles) {
  write("elsewhere/deep/5.png");
  fs::create_directory_symlink(folder_.path() / "elsewhere", folder_.path() / "train/cat/link");
  EXPECT_THAT(paths(list(Split::train)), ElementsAre("train/cat/z.jpeg", "train/dog/a.jpg",
                                                     "train/cat/link/deep/5.png", "train/dog/b.PNG"));
  fs::create_symlink(folder_.path() / "nowhere", folder_.path() / "train/cat/notes");
  EXPECT_EQ(to_line(list(Split::train).info.left_out), "1 unusable links");
  fs::create_directory_symlink("..", folder_.path() / "elsewhere/deep/up");
  EXPECT_THAT(error(Split::train),
              AllOf(HasSubstr("train/cat/link/deep/up: leads back to a folder around it")));
  remove("elsewhere/deep/up");
  fs::create_symlink(folder_.path() / "train/cat/self", folder_.path() / "train/cat/self");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("train/cat/self: "), HasSubstr("symbolic links")));
  remove("train/cat/self");
  fs::create_symlink(folder_.path() / "train/loop", folder_.path() / "train/loop");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("train/loop: "), HasSubstr("symbolic links")));
}

// Names are bytes: Latin-1, a line feed, quotes, an escape sequence.
TEST_F(ImageFolder, AnyBytesMayBeInNames) {
  const std::string latin = "caf\xe9", line = "a\nb", quotes = "\"'{}", escape = "\x1b[2J";
  for (const std::string& name : {latin, line, quotes, escape}) write("train/" + name + "/" + name + ".png");
  const ImageSource train = list(Split::train);
  EXPECT_THAT(train.info.class_names, ElementsAre(escape, quotes, line, latin, "cat", "dog"));
  EXPECT_EQ(train.files[3].path, "train/" + latin + "/" + latin + ".png");
  EXPECT_THAT(list(Split::val).notes, ElementsAre(HasSubstr("'\\x1b[2J', '\"'{}', 'a\\nb', 'caf\xe9'")));
  write("val/new\nline/1.png");
  EXPECT_THAT(error(Split::val), HasSubstr("'new\\nline'"));
  // Names that differ in such a byte alone are two classes, and two sources.
  write("train/caf\xe8/1.png");
  EXPECT_EQ(list(Split::train).info.class_names.size(), 7u);
  const uint64_t before = source_fingerprint(list(Split::train));
  const fs::path one = folder_.path() / "train/caf\xe8/1.png";
  rename("train/caf\xe8", "train/caf\xea");
  EXPECT_NE(source_fingerprint(list(Split::train)), before);
}

TEST_F(ImageFolder, FingerprintTellsChangesApart) {
  const auto fingerprint = [&] { return source_fingerprint(list(Split::train)); };
  const uint64_t before = fingerprint();
  EXPECT_EQ(fingerprint(), before);
  const fs::path file = folder_.path() / "train/dog/a.jpg";
  const auto time = fs::last_write_time(file);
  fs::last_write_time(file, time + std::chrono::seconds(1));
  EXPECT_NE(fingerprint(), before);
  fs::last_write_time(file, time);
  EXPECT_EQ(fingerprint(), before);
  write_below(file, "xy");
  fs::last_write_time(file, time);
  EXPECT_NE(fingerprint(), before);  // by its size
  write_below(file, "x");
  fs::last_write_time(file, time);
  EXPECT_EQ(fingerprint(), before);
  write("train/dog/c.jpg");
  EXPECT_NE(fingerprint(), before);
}

}  // namespace
}  // namespace plume::data::image_folder_test
