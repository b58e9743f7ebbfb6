#include "data/sets/image_source.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/data/images/image_files.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> paths(const ImageSource& source) {
  std::vector<std::string> all;
  for (const ImageFile& file : source.files) all.push_back(file.path);
  return all;
}
std::vector<int32_t> labels(const ImageSource& source) {
  std::vector<int32_t> all;
  for (const ImageFile& file : source.files) all.push_back(file.label);
  return all;
}

// Three classes, whose order in wnids.txt is neither that of their ids nor that of the annotations.
class TinyImageNet : public testing::Test {
 protected:
  TinyImageNet() {
    write("wnids.txt", "n03\nn01\nn02\n");
    write("words.txt", "n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcab, taxi\n");
    for (const char* wnid : {"n01", "n02", "n03"})
      for (const char* number : {"10", "2", "0"})
        write(fs::path("train") / wnid / "images" / (std::string(wnid) + "_" + number + ".JPEG"), "x");
    write("train/n01/n01_boxes.txt", "n01_0.JPEG\t0\t0\t1\t1\n");
    annotate("val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn03\t1\t2\t3\t4\nval_2.JPEG\tn01\t1\t2\t3\t4\n");
  }
  void write(const fs::path& name, const std::string& text) { write_below(folder_.path() / name, text); }
  void annotate(const std::string& text) { write("val/val_annotations.txt", text); }
  std::string dir() const { return folder_.path().string(); }
  ImageSource list(Split split) const { return list_tiny_imagenet(dir(), split); }
  std::string error(Split split) const {
    return refusal([&] { list(split); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(TinyImageNet, LabelsFollowWnids) {
  const ImageSource train = list(Split::train);
  EXPECT_THAT(train.info.class_names, ElementsAre("cab", "goldfish", "crane"));
  EXPECT_EQ(train.info.name, "tiny-imagenet");
  EXPECT_EQ(train.info.height, 64);
  EXPECT_EQ(train.info.width, 64);
  EXPECT_THAT(labels(train), ElementsAre(0, 1, 2, 0, 1, 2, 0, 1, 2));
  EXPECT_EQ(train.files[0].path, "train/n03/images/n03_0.JPEG");
  EXPECT_EQ(train.files[3].path, "train/n03/images/n03_2.JPEG");
  EXPECT_EQ(train.files[6].path, "train/n03/images/n03_10.JPEG");
  const ImageSource val = list(Split::test);
  EXPECT_THAT(paths(val),
              ElementsAre("val/images/val_0.JPEG", "val/images/val_1.JPEG", "val/images/val_2.JPEG"));
  EXPECT_THAT(labels(val), ElementsAre(2, 0, 1));
  EXPECT_EQ(val.info.class_names, train.info.class_names);
}

TEST_F(TinyImageNet, FindsTheFolderOfTheArchive) {
  const test::TemporaryFolder outer;
  fs::rename(folder_.path(), outer.path() / "tiny-imagenet-200");
  EXPECT_EQ(list_tiny_imagenet(outer.path().string(), Split::train).files.size(), 9u);
  fs::rename(outer.path() / "tiny-imagenet-200", folder_.path());
  write_below(outer.path() / "tiny-imagenet-200.zip", "x");
  EXPECT_THAT(refusal([&] { list_tiny_imagenet(outer.path().string(), Split::train); }),
              AllOf(HasSubstr("no Tiny ImageNet here"), HasSubstr("must be unpacked")));
  EXPECT_THAT(refusal([&] { list_tiny_imagenet(dir() + "/nowhere", Split::train); }),
              HasSubstr("no such folder"));
  EXPECT_THAT(refusal([&] { list_tiny_imagenet(dir() + "/wnids.txt", Split::train); }),
              HasSubstr("is not a folder"));
}

TEST_F(TinyImageNet, LinesMayEndAsOnWindows) {
  write("wnids.txt", "n03\r\nn01\r\nn02");
  annotate("val_0.JPEG\tn02\r\n\r\nval_1.JPEG\tn03");
  EXPECT_THAT(labels(list(Split::test)), ElementsAre(2, 0));
}

TEST_F(TinyImageNet, RefusesBadLists) {
  const std::pair<const char*, const char*> wnids[] = {
      {"", "is empty"},
      {"\n\n", "lists no ids"},
      {"n03\nn01\nn03\n", "line 3: n03 is listed twice"},
      {"n03\ncat\n", "line 2: 'cat', expected a WordNet id"},
      {"n03\tcab\n", "line 1: 'n03', expected a WordNet id"},
      {"../n03\n", "line 1: '../n03', expected a WordNet id"},
      {"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"},
      {"n03\nn01\nn02\nn04\n", "words.txt: has no name for n04"},
  };
  for (const auto& [text, reason] : wnids) {
    write("wnids.txt", text);
    EXPECT_THAT(error(Split::test), AllOf(HasSubstr(".txt: "), HasSubstr(reason)));
  }
  write("wnids.txt", "n03\nn01\nn02\n");
  write("words.txt", "n01 goldfish\n");
  EXPECT_THAT(error(Split::train),
              HasSubstr("words.txt: line 1: 'n01 goldfish', expected an id, a tab and names"));
  fs::remove(folder_.path() / "words.txt");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("words.txt"), HasSubstr("No such file")));
}

TEST_F(TinyImageNet, RefusesBadAnnotations) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "is empty"},
      {"\n", "lists no images"},
      {"val_0.JPEG n02\n", "line 1: expected a file name, a tab and a WordNet id"},
      {"val_0.JPEG\tn02\n../../secret\tn02\n",
       "line 2: '../../secret' is not the name of a file in val/images"},
      {"..\tn02\n", "line 1: '..' is not the name"},
      {"/etc/passwd\tn02\n", "line 1: '/etc/passwd' is not the name"},
      {"a\\b.JPEG\tn02\n", "line 1: 'a\\b.JPEG' is not the name"},
      {std::string("a\0b.JPEG\tn02\n", 13), "line 1: has a control character (0)"},
      {"val_0.JPEG\tn02\nval\x1b[2J.JPEG\tn02\n", "line 2: has a control character (27)"},
      {"\tn02\n", "line 1: '' is not the name"},
      {"val_0.JPEG\tn99\n", "line 1: n99 is not a class that wnids.txt lists"},
      {"val_0.JPEG\tn02\nval_1.JPEG\tn02\nval_0.JPEG\tn01\n", "line 3: val_0.JPEG is listed twice"},
      {"val_0.JPEG\tn02\nval_0.JPEG\tn02\n", "line 2: val_0.JPEG is listed twice"},
      {"<html>404</html>", "an HTML page"},
  };
  for (const auto& [text, reason] : cases) {
    annotate(text);
    EXPECT_THAT(error(Split::test), AllOf(HasSubstr("val_annotations.txt: "), HasSubstr(reason)));
  }
  EXPECT_EQ(list(Split::train).files.size(), 9u);  // not concerned
}

TEST_F(TinyImageNet, NamesMissingAnnotations) {
  const fs::path annotations = folder_.path() / "val/val_annotations.txt";
  fs::rename(annotations, folder_.path() / "val/Val_Annotations.TXT");
  EXPECT_THAT(error(Split::test), HasSubstr("val/Val_Annotations.TXT: must be called val_annotations.txt"));
  fs::remove(folder_.path() / "val/Val_Annotations.TXT");
  EXPECT_THAT(error(Split::test), AllOf(HasSubstr("val/val_annotations.txt"), HasSubstr("No such file")));
  ASSERT_EQ(mkfifo(annotations.c_str(), 0600), 0);
  EXPECT_THAT(error(Split::test), HasSubstr("is a pipe"));
  fs::remove(annotations);
  fs::create_symlink(annotations, annotations);
  EXPECT_THAT(error(Split::test), HasSubstr("symbolic links"));
  fs::remove_all(folder_.path() / "val");
  EXPECT_THAT(error(Split::test), AllOf(HasSubstr("/val: "), HasSubstr("No such file")));
}

TEST_F(TinyImageNet, RefusesBadClassFolders) {
  fs::create_directories(folder_.path() / "train/n99/images");
  EXPECT_THAT(error(Split::train), HasSubstr("train/n99: is not a class that wnids.txt lists"));
  fs::remove_all(folder_.path() / "train/n99");
  fs::remove_all(folder_.path() / "train/n02/images");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("train/n02/images"), HasSubstr("No such file")));
  fs::create_directories(folder_.path() / "train/n02/images");
  EXPECT_THAT(error(Split::train), HasSubstr("train/n02/images: has no images"));
  write("train/n02/images/notes.txt", "x");
  EXPECT_THAT(error(Split::train), HasSubstr("train/n02/images: has no images"));
  fs::remove_all(folder_.path() / "train");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("/train: "), HasSubstr("No such file")));
}

class ImageFolder : public testing::Test {
 protected:
  ImageFolder() {
    for (const char* name :
         {"train/dog/a.jpg", "train/dog/b.PNG", "train/cat/z.jpeg", "val/cat/1.JPEG", "val/dog/2.png"})
      write(name);
  }
  void write(const std::string& name) { write_below(folder_.path() / name, "x"); }
  void remove(const std::string& name) { fs::remove_all(folder_.path() / name); }
  std::string dir() const { return folder_.path().string(); }
  ImageSource list(Split split) const { return list_image_folder(dir(), split); }
  std::string error(Split split) const {
    return refusal([&] { list(split); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(ImageFolder, ClassesAreSortedFolders) {
  write("train/dog/notes.txt");
  write("train/dog/.hidden.jpg");
  write("train/.cache/a.jpg");
  write("train/readme.txt");
  const ImageSource train = list(Split::train), val = list(Split::test);
  EXPECT_THAT(train.info.class_names, ElementsAre("cat", "dog"));
  EXPECT_THAT(paths(train), ElementsAre("train/cat/z.jpeg", "train/dog/a.jpg", "train/dog/b.PNG"));
  EXPECT_THAT(labels(train), ElementsAre(0, 1, 1));
  EXPECT_EQ(train.info.height, 0);
  EXPECT_THAT(paths(val), ElementsAre("val/cat/1.JPEG", "val/dog/2.png"));
  EXPECT_EQ(val.info.class_names, train.info.class_names);
}

TEST_F(ImageFolder, TheOtherSplitMayBeCalledTestOrBeAbsent) {
  fs::rename(folder_.path() / "val", folder_.path() / "test");
  EXPECT_THAT(paths(list(Split::test)), ElementsAre("test/cat/1.JPEG", "test/dog/2.png"));
  remove("test");
  EXPECT_EQ(list(Split::train).files.size(), 3u);
  EXPECT_THAT(error(Split::test), HasSubstr("has no folder val or test"));
  write("val/dog/2.png");
  write("val/cat/1.png");
  remove("train");
  EXPECT_EQ(list(Split::test).files.size(), 2u);
  EXPECT_THAT(error(Split::train), HasSubstr("has no folder train"));
}

TEST_F(ImageFolder, RefusesDifferentClasses) {
  write("val/bird/1.png");
  for (const Split split : {Split::train, Split::test})
    EXPECT_THAT(error(split),
                AllOf(HasSubstr("/val: has the class 'bird', train has not"), HasSubstr("same classes")));
  remove("val/bird");
  remove("val/cat");
  for (const Split split : {Split::train, Split::test})
    EXPECT_THAT(error(split), HasSubstr("/train: has the class 'cat', val has not"));
}

TEST_F(ImageFolder, RefusesFoldersWithoutImages) {
  remove("train/cat/z.jpeg");
  EXPECT_THAT(error(Split::train), HasSubstr("train/cat: has no images, expected *.jpg, *.jpeg or *.png"));
  write("train/cat/images/z.jpeg");
  EXPECT_THAT(error(Split::train), HasSubstr("train/cat: has no images"));
  remove("train");
  write("train/a.jpg");
  EXPECT_THAT(error(Split::train), HasSubstr("/train: has no folders, expected one per class"));
  remove("train");
  write("train");
  EXPECT_THAT(error(Split::train), HasSubstr("/train: Not a directory"));
  EXPECT_THAT(refusal([&] { list_image_folder(dir() + "/none", Split::train); }),
              HasSubstr("no such folder"));
  EXPECT_THAT(refusal([&] { list_image_folder(dir() + "/val/cat/1.JPEG", Split::train); }),
              HasSubstr("is not a folder"));
}

TEST_F(ImageFolder, RefusesALoopOfLinks) {
  fs::create_symlink(folder_.path() / "train/loop", folder_.path() / "train/loop");
  EXPECT_THAT(error(Split::train), AllOf(HasSubstr("train/loop: "), HasSubstr("symbolic links")));
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
}  // namespace plume::data
