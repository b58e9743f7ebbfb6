#include "data/sets/image_set.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "data/images/resize.h"
#include "data/sets/registry.h"
#include "tests/data/images/image_files.h"

namespace plume::data::image_set_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Two classes of three images each, by turns, in DIR/data/train, of different sizes; the packed file goes to
// DIR/cache.
class ImageSet : public testing::Test {
 protected:
  ImageSet() {
    for (int i = 0; i < 6; ++i) write_image(file(i), height(i), width(i), uint64_t(i));
    options_.cache_dir = folder_.file("cache");
    options_.log = [this](const std::string& line) { log_.push_back(line); };
  }
  static int height(int i) { return 5 + i; }
  static int width(int i) { return 9 - i % 2; }
  fs::path file(int i) const {
    return folder_.path() / "data/train" / (i % 2 == 0 ? "a" : "b") / (std::to_string(i) + ".png");
  }
  std::string dir() const { return folder_.file("data"); }
  std::shared_ptr<const Dataset> open() {
    log_.clear();
    return open_dataset("imagefolder", dir(), Split::train, options_);
  }
  std::string error(ErrorKind kind = ErrorKind::bad_input) {
    return refusal([&] { open(); }, kind);
  }
  std::vector<std::string> cached() const {
    std::vector<std::string> names;
    if (fs::exists(options_.cache_dir))
      for (const std::string& name : names_in(options_.cache_dir))
        if (!name.ends_with(".lock")) names.push_back(name);
    return names;
  }
  std::string packed() const { return options_.cache_dir + "/" + cached().at(0); }

  test::TemporaryFolder folder_;
  OpenOptions options_;
  std::vector<std::string> log_;
};

TEST_F(ImageSet, IsPackedOnce) {
  const auto first = open();
  ASSERT_EQ(first->size(), 6);
  EXPECT_FALSE(first->uniform());
  EXPECT_THAT(first->class_names(), ElementsAre("a", "b"));
  for (int i = 0; i < 6; ++i) {
    const Sample sample = first->get(i);
    const Image expected = noise(height(i), width(i), uint64_t(i));
    EXPECT_EQ(sample.height, expected.height);
    EXPECT_EQ(sample.width, expected.width);
    EXPECT_EQ(sample.label, i % 2);
    EXPECT_EQ(std::vector(sample.pixels.begin(), sample.pixels.end()), expected.pixels);
  }
  EXPECT_THAT(log_, ElementsAre(AllOf(HasSubstr("6 images of imagefolder train are packed into"),
                                      HasSubstr(packed()))));
  EXPECT_EQ(cached().size(), 1u);

  const auto again = open();
  EXPECT_THAT(log_, IsEmpty());
  EXPECT_EQ(again->fingerprint(), first->fingerprint());
  EXPECT_EQ(again->get(5).pixels[7], first->get(5).pixels[7]);
}

TEST_F(ImageSet, ThreadsMakeNoDifference) {
  options_.threads = 1;
  const std::string fingerprint = open()->fingerprint();
  const std::string bytes = test::read_file(packed());
  fs::remove(packed());
  options_.threads = 5;
  EXPECT_EQ(open()->fingerprint(), fingerprint);
  EXPECT_EQ(test::read_file(packed()), bytes);
}

TEST_F(ImageSet, IsPackedAgainWhenTheSourceChanges) {
  const std::string before = open()->fingerprint();
  write_image(file(4), 3, 3, 99);
  const auto changed = open();
  EXPECT_THAT(log_, ElementsAre(AllOf(HasSubstr("have changed; 6 images"), HasSubstr("are packed into"))));
  EXPECT_NE(changed->fingerprint(), before);
  EXPECT_EQ(changed->get(4).height, 3);
  fs::remove(file(0));
  EXPECT_EQ(open()->size(), 5);
  EXPECT_EQ(cached().size(), 1u);
}

TEST_F(ImageSet, IsPackedAgainWhenTheFileIsDamaged) {
  const auto first = open();
  const std::string bytes = test::read_file(packed());
  std::string damaged = bytes;
  damaged[4100] = char(damaged[4100] ^ 4);
  for (const std::string& content : {std::string(), bytes.substr(0, bytes.size() / 2), damaged}) {
    fs::remove(packed());  // what is mapped stays as it is
    test::write_file(
        options_.cache_dir + "/" +
            fs::path(packed_path(list_image_folder(dir(), Split::train), {.cache_dir = options_.cache_dir}))
                .filename()
                .string(),
        content);
    EXPECT_EQ(open()->fingerprint(), first->fingerprint());
    EXPECT_EQ(log_.size(), 1u);
    EXPECT_THAT(log_.at(0), HasSubstr("are packed into"));
    EXPECT_EQ(test::read_file(packed()), bytes);
  }
}

TEST_F(ImageSet, ResizesWhilePacking) {
  open();
  options_.shorter_side = 4;
  const auto set = open();
  EXPECT_EQ(cached().size(), 2u);  // both stay of use
  for (int i = 0; i < 6; ++i) {
    const Image image = noise(height(i), width(i), uint64_t(i));
    const Image expected = resize(image, resized_to_shorter_side({image.height, image.width}, 4));
    const Sample sample = set->get(i);
    EXPECT_EQ(std::min(sample.height, sample.width), 4);
    EXPECT_EQ(std::vector(sample.pixels.begin(), sample.pixels.end()), expected.pixels);
  }
  options_.shorter_side = 0;
  EXPECT_EQ(open()->get(0).height, 5);
  EXPECT_THAT(log_, IsEmpty());
}

// To enlarge a strip to a shorter side of 256 would take 73 MB; it stays, and a crop enlarges what it shows.
TEST_F(ImageSet, EnlargesNothing) {
  write_image(file(2), 8, 3000, 1);
  write_image(file(4), 700, 3, 2);
  write_image(file(5), 300, 400, 3);
  options_.shorter_side = 256;
  const auto set = open();
  ASSERT_EQ(set->size(), 6);
  EXPECT_EQ(set->get(2).width, 3000);
  EXPECT_EQ(set->get(2).height, 8);
  EXPECT_EQ(set->get(4).height, 700);
  EXPECT_EQ(set->get(4).width, 3);
  EXPECT_EQ(set->get(5).height, 256);
  EXPECT_EQ(set->get(5).width, 341);
  EXPECT_TRUE(set->info().any_size);
  EXPECT_LT(fs::file_size(packed()), 500'000u);
  options_.shorter_side = 1 << 20;
  EXPECT_EQ(open()->get(0).height, height(0));
}

TEST_F(ImageSet, SaysWhereItsImagesComeFrom) {
  write_below(file(0).parent_path() / "x.webp", "x");
  write_below(file(0).parent_path() / "y.webp", "x");
  write_below(file(2), "GIF89a..");
  options_.skip_bad = 1;
  for (int turn = 0; turn < 2; ++turn) {  // packed, then mapped
    const DatasetDescription d = open()->description();
    EXPECT_EQ(d.folder, dir() + "/train");
    EXPECT_EQ(d.split, Split::train);
    EXPECT_EQ(d.images, 5);
    EXPECT_EQ(to_line(d), "train split, 5 images of " + dir() + "/train; left out: 2 .webp, 1 unreadable");
    EXPECT_THAT(log_, testing::Contains(dir() + "/train: left out: 2 .webp"));
  }
}

TEST_F(ImageSet, StopsAtTheFirstBadImage) {
  write_below(file(2), "GIF89a..");
  fs::remove(file(4));
  fs::create_symlink(file(4), file(4));
  EXPECT_THAT(error(), AllOf(HasSubstr("train/a/2.png: "), HasSubstr("a GIF image")));
  EXPECT_THAT(cached(), IsEmpty());
  EXPECT_THAT(log_, IsEmpty());
}

TEST_F(ImageSet, PrintsOddNamesOnOneLine) {
  write_below(file(0).parent_path() / "x\n\x1b\xe9.png", "GIF89a..");
  EXPECT_THAT(error(), HasSubstr("/x\\n\\x1b\xe9.png: "));
  options_.skip_bad = 1;
  EXPECT_EQ(open()->size(), 6);
  EXPECT_THAT(log_, testing::Each(testing::Not(HasSubstr("\n"))));
}

TEST_F(ImageSet, SkipsBadImagesAsAllowed) {
  write_below(file(2), "GIF89a..");
  fs::remove(file(3));
  ASSERT_EQ(mkfifo(file(3).c_str(), 0600), 0);
  fs::remove(file(4));
  fs::create_symlink(file(4), file(4));
  options_.skip_bad = 2;
  EXPECT_THAT(error(),
              AllOf(HasSubstr("train/a/4.png: "), HasSubstr("symbolic links"), HasSubstr("2 other images")));
  EXPECT_THAT(cached(), IsEmpty());
  options_.skip_bad = 3;
  for (int turn = 0; turn < 2; ++turn) {  // packed, then mapped
    const auto set = open();
    ASSERT_EQ(set->size(), 3);
    EXPECT_EQ(set->get(2).label, 1);
    ASSERT_EQ(set->skipped().size(), 3u);
    EXPECT_EQ(set->skipped()[0].path, file(2).string());
    EXPECT_THAT(set->skipped()[0].reason, HasSubstr("GIF"));
    EXPECT_THAT(set->skipped()[1].reason, HasSubstr("is a pipe"));
    ASSERT_EQ(log_.size(), turn == 0 ? 5u : 4u);
    EXPECT_THAT(log_[log_.size() - 4], AllOf(HasSubstr("skipped: "), HasSubstr("2.png: ")));
    EXPECT_THAT(log_.back(), HasSubstr("3 of 6 images of imagefolder train were left out"));
  }
  options_.skip_bad = 1;  // the packed file has not forgotten them
  EXPECT_THAT(error(), AllOf(HasSubstr("3.png: is a pipe"), HasSubstr("1 other images")));
  options_.skip_bad = 0;
  EXPECT_THAT(error(), HasSubstr("2.png: "));
}

TEST_F(ImageSet, RefusesASetWithoutAnyGoodImage) {
  for (int i = 0; i < 6; ++i) write_below(file(i), "");
  options_.skip_bad = 100;
  EXPECT_THAT(error(), HasSubstr("no image of imagefolder can be read"));
}

TEST_F(ImageSet, StaysInMemoryWhereNothingCanBeWritten) {
  const std::string fingerprint = open()->fingerprint();
  write_below(folder_.path() / "file", "x");
  std::vector<std::string> folders{folder_.file("file/cache"), "/proc/plume-cache"};
  if (::geteuid() != 0) {
    fs::create_directory(folder_.path() / "locked");
    fs::permissions(folder_.path() / "locked", fs::perms::owner_read | fs::perms::owner_exec);
    folders.push_back(folder_.file("locked"));
  }
  for (const std::string& folder : folders) {
    options_.cache_dir = folder;
    const auto set = open();
    EXPECT_EQ(set->fingerprint(), fingerprint) << folder;
    EXPECT_EQ(set->get(5).height, height(5));
    ASSERT_EQ(log_.size(), 1u) << folder;
    EXPECT_THAT(log_[0], AllOf(HasSubstr("cannot be written: "),
                               HasSubstr("6 images of imagefolder train are kept in memory")));
  }
}

TEST_F(ImageSet, ChoosesItsFolderByTheEnvironment) {
  const ImageSource source = list_image_folder(dir(), Split::train);
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "/x", 1), 0);
  EXPECT_EQ(packed_path(source, {}).find("/x/plume/imagefolder-train-"), 0u);
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "relative", 1), 0);
  ASSERT_EQ(::setenv("HOME", "/home/me", 1), 0);
  EXPECT_EQ(packed_path(source, {}).find("/home/me/.cache/plume/imagefolder-train-"), 0u);
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  EXPECT_EQ(packed_path(source, {}), "");
  options_.cache_dir.clear();
  EXPECT_EQ(open()->size(), 6);
  EXPECT_THAT(log_, ElementsAre(HasSubstr("kept in memory")));
}

TEST_F(ImageSet, RefusesOptionsOutOfRange) {
  options_.cache_dir = dir() + "/train/a/cache";
  EXPECT_THAT(error(ErrorKind::usage), HasSubstr("lies inside the data's own folder"));
  EXPECT_FALSE(fs::exists(options_.cache_dir));
  options_.cache_dir = folder_.file("cache");
  options_.skip_bad = -1;
  EXPECT_THAT(error(ErrorKind::usage), HasSubstr("skip_bad -1"));
  options_.skip_bad = 0;
  options_.shorter_side = -1;
  EXPECT_THAT(error(ErrorKind::usage), HasSubstr("shorter_side -1"));
  EXPECT_THAT(refusal([&] { open_dataset("tiny-imagenet", dir(), Split::train, {.shorter_side = 8}); },
                      ErrorKind::usage),
              HasSubstr("tiny-imagenet: is not resized"));
}

// In a child process, whose limits and death are its own: may write files of at most `bytes`.
int status_of_child(rlim_t bytes, bool killed, const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, killed ? SIG_DFL : SIG_IGN);
    ::_exit(body() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(ImageSet, AFullDiskIsAnErrorAndLeavesNothing) {
  const int status = status_of_child(4500, false, [&] {
    try {
      open();
    } catch (const Error& error) {
      return error.kind() == ErrorKind::resource &&
             std::string(error.what()).find("bytes needed") != std::string::npos && cached().empty();
    }
    return false;
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(open()->size(), 6);
}

TEST_F(ImageSet, AKilledProcessLeavesNoHalfFile) {
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  const std::string fingerprint = [&] {
    const std::string f = open()->fingerprint();
    fs::remove(packed());
    return f;
  }();
  for (const rlim_t bytes :
       {rlim_t(1000), rlim_t(4200), rlim_t(5000)}) {  // in the header, the pixels, later pixels
    const int status = status_of_child(bytes, true, [&] { return open() != nullptr; });
    EXPECT_TRUE(WIFSIGNALED(status)) << bytes;
    for (const std::string& name : cached()) EXPECT_TRUE(name.ends_with(".tmp")) << name;
  }
  EXPECT_EQ(open()->fingerprint(), fingerprint);
  EXPECT_THAT(cached(), ElementsAre(testing::EndsWith(".packed")));
}

TEST_F(ImageSet, ManyOpenItAtOnce) {
  const std::string fingerprint = [&] {
    const std::string f = open()->fingerprint();
    fs::remove(packed());
    return f;
  }();
  std::vector<int> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(open()->fingerprint() == fingerprint ? int(log_.size()) : 10);
    children.push_back(child);
  }
  int packers = 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    packers += WEXITSTATUS(status);
  }
  EXPECT_EQ(packers, 1);  // one packs, the others wait for it
}

TEST(TinyImageNetSet, NeedsImagesOf64Pixels) {
  const test::TemporaryFolder folder;
  const fs::path data = folder.path() / "data";
  write_below(data / "wnids.txt", "n02\nn01\n");
  write_below(data / "words.txt", "n01\tcat\nn02\tdog\n");
  for (const char* wnid : {"n01", "n02"})
    write_image(data / "train" / wnid / "images" / (std::string(wnid) + "_0.JPEG"), 64, 64, 1);
  write_below(data / "val/val_annotations.txt", "val_0.JPEG\tn01\t0\t0\t1\t1\nval_1.JPEG\tn02\t0\t0\t1\t1\n");
  write_image(data / "val/images/val_0.JPEG", 64, 64, 2);
  OpenOptions options;
  options.cache_dir = folder.file("cache");
  options.log = [](const std::string&) {};
  const auto train = open_dataset("tiny-imagenet", data.string(), Split::train, options);
  EXPECT_TRUE(train->uniform());
  EXPECT_EQ(train->height(), 64);
  EXPECT_THAT(train->class_names(), ElementsAre("dog", "cat"));
  const auto open_val = [&] { return open_dataset("tiny-imagenet", data.string(), Split::val, options); };
  EXPECT_THAT(refusal([&] { open_val(); }), AllOf(HasSubstr("val_1.JPEG"), HasSubstr("No such file")));
  write_image(data / "val/images/val_1.JPEG", 64, 63, 3);
  EXPECT_THAT(refusal([&] { open_val(); }), HasSubstr("val_1.JPEG: has 64x63 pixels, expected 64x64"));
  options.skip_bad = 1;
  const auto val = open_val();
  ASSERT_EQ(val->size(), 1);
  EXPECT_EQ(val->get(0).label, 1);
}

}  // namespace
}  // namespace plume::data::image_set_test
