// What is left when writing fails, and when the process dies while writing.
#include "engine/files/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "engine/core/error.h"
#include "tests/support/test_support.h"

namespace plume::atomic_file_test {
namespace {

using test::read_file;
using test::TemporaryFolder;
using test::write_file;
using testing::HasSubstr;

size_t files_in(const TemporaryFolder& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++count;
  return count;
}

std::string refusal(const std::string& path, const std::string& content = "new") {
  try {
    write_file_atomically(path, content);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::resource);
    EXPECT_THAT(error.what(), HasSubstr(path));
    return error.what();
  }
  ADD_FAILURE() << "wrote " << path;
  return "";
}

TEST(AtomicFile, WritesAndReplaces) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_file_atomically(path, "one");
  EXPECT_EQ(read_file(path), "one");
  write_file_atomically(path, std::string("\0two", 4));
  EXPECT_EQ(read_file(path), std::string("\0two", 4));
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, PiecesAndCorrections) {
  const TemporaryFolder folder;
  AtomicFile file(folder.file("a"));
  file.write("head ", 5);
  file.write("body", 4);
  file.overwrite(0, "HEAD", 4);
  EXPECT_THROW(file.overwrite(8, "xx", 2), Error);
  file.write(".", 1);
  EXPECT_FALSE(std::filesystem::exists(folder.file("a")));
  file.commit();
  EXPECT_EQ(read_file(folder.file("a")), "HEAD body.");
}

TEST(AtomicFile, AbandonedLeavesTheOldOne) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new", 3);
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, ReplacesALeftOverTemporary) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_file(path + ".tmp", "a long left-over of a process that was killed");
  write_file_atomically(path, "new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, DoesNotFollowALinkInThePlaceOfTheTemporary) {
  const TemporaryFolder folder;
  write_file(folder.file("precious"), "precious");
  std::filesystem::create_symlink(folder.file("precious"), folder.file("a.tmp"));
  write_file_atomically(folder.file("a"), "new");
  EXPECT_EQ(read_file(folder.file("precious")), "precious");
  EXPECT_EQ(read_file(folder.file("a")), "new");
}

TEST(AtomicFile, RefusesWhatCannotBeWritten) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(folder.file("absent/a")), HasSubstr("No such file or directory"));
  write_file(folder.file("file"), "old");
  EXPECT_THAT(refusal(folder.file("file/a")), HasSubstr("Not a directory"));
  EXPECT_THAT(refusal(folder.path().string()), HasSubstr("a folder"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder.file("pipe")), HasSubstr("not a regular file"));
  EXPECT_EQ(read_file(folder.file("file")), "old");
}

TEST(AtomicFile, RefusesAnUnwritableFolder) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TemporaryFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0500), 0);
  EXPECT_THAT(refusal(folder.file("a")), HasSubstr("Permission denied"));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
}

// In a child process, whose limits and death are its own. Its exit code is 0 when `body` returns true.
template <class F>
int in_child(F&& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(AtomicFile, AWriteThatFailsLeavesTheOldFileAndNamesTheSizes) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_file(path, "old");
  const int status = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    try {
      write_file_atomically(path, std::string(5000, 'x'));
    } catch (const Error& error) {
      const std::string what = error.what();
      return error.kind() == ErrorKind::resource && what.starts_with(path + ": ") &&
             what.find("5000 bytes needed") != std::string::npos && what.find(" free") != std::string::npos;
    }
    return false;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, AKilledProcessLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_file(path, "old");
  const int status = in_child([&] {
    AtomicFile file(path);
    file.write("new", 3);
    ::raise(SIGKILL);
    return true;
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_file(path), "old");
  write_file_atomically(path, "new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(files_in(folder), 1u);
}

}  // namespace
}  // namespace plume::atomic_file_test
