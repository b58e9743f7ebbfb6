#include "data/sets/image_source.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/data/sets/listed_files.h"

namespace plume::data::image_source_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

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
  const ImageSource val = list(Split::val);
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
  EXPECT_THAT(labels(list(Split::val)), ElementsAre(2, 0));
}

// As editors and spreadsheets leave them.
TEST_F(TinyImageNet, ListsMayHaveAByteOrderMarkAndQuotes) {
  write("wnids.txt", "\xef\xbb\xbfn03\r\nn01\r\nn02\r\n");
  write("words.txt",
        "\xef\xbb\xbfn01\t\"goldfish, Carassius auratus\"\nn02\t\"the \"\"crane\"\"\"\r\nn03\tcab\n");
  annotate("\xef\xbb\xbf\"val_0.JPEG\"\tn02\t0\r\nval_1.JPEG\t\"n03\"\r\n");
  const ImageSource val = list(Split::val);
  EXPECT_THAT(labels(val), ElementsAre(2, 0));
  EXPECT_THAT(paths(val), ElementsAre("val/images/val_0.JPEG", "val/images/val_1.JPEG"));
  EXPECT_THAT(val.info.class_names, ElementsAre("cab", "goldfish", "the \"crane\""));
  annotate("\"../x\"\tn02\n");
  EXPECT_THAT(error(Split::val), HasSubstr("line 1: '../x' is not the name of a file"));
  annotate("\xef\xbb\xbf");
  EXPECT_THAT(error(Split::val), HasSubstr("lists no images"));
}

TEST_F(TinyImageNet, HasNoLabelledTestSplit) {
  EXPECT_THAT(refusal([&] { list(Split::test); }, ErrorKind::usage),
              HasSubstr("tiny-imagenet: has no split test: it has train and val"));
}

TEST_F(TinyImageNet, CountsWhatIsNoImageOfTheSet) {
  write("train/n01/images/notes.txt", "x");
  write("train/n02/images/n02_7.webp", "x");
  write("train/n03/images/n03_7.webp", "x");
  EXPECT_EQ(to_line(list(Split::train).info.left_out), "2 .webp, 1 .txt");
  EXPECT_EQ(list(Split::train).info.folder, dir() + "/train");
  write("val/images/val_0.JPEG", "x");
  write("val/images/val_7.JPEG", "x");
  EXPECT_EQ(to_line(list(Split::val).info.left_out), "1 not in val_annotations.txt");
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
    EXPECT_THAT(error(Split::val), AllOf(HasSubstr(".txt: "), HasSubstr(reason)));
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
    EXPECT_THAT(error(Split::val), AllOf(HasSubstr("val_annotations.txt: "), HasSubstr(reason)));
  }
  EXPECT_EQ(list(Split::train).files.size(), 9u);  // not concerned
}

TEST_F(TinyImageNet, NamesMissingAnnotations) {
  const fs::path annotations = folder_.path() / "val/val_annotations.txt";
  fs::rename(annotations, folder_.path() / "val/Val_Annotations.TXT");
  EXPECT_THAT(error(Split::val), HasSubstr("val/Val_Annotations.TXT: must be called val_annotations.txt"));
  fs::remove(folder_.path() / "val/Val_Annotations.TXT");
  EXPECT_THAT(error(Split::val), AllOf(HasSubstr("val/val_annotations.txt"), HasSubstr("No such file")));
  ASSERT_EQ(mkfifo(annotations.c_str(), 0600), 0);
  EXPECT_THAT(error(Split::val), HasSubstr("is a pipe"));
  fs::remove(annotations);
  fs::create_symlink(annotations, annotations);
  EXPECT_THAT(error(Split::val), HasSubstr("symbolic links"));
  fs::remove_all(folder_.path() / "val");
  EXPECT_THAT(error(Split::val), AllOf(HasSubstr("/val: "), HasSubstr("No such file")));
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

}  // namespace
}  // namespace plume::data::image_source_test
