#include "elsa/io/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

TEST(AtomicFile, TheTargetAppearsOnlyAtCommit) {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  AtomicFile file(path);
  file.Write("hello ");
  file.Write("world");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(folder.Entries(), 1u);
  file.Commit();
  EXPECT_EQ(ReadText(path), "hello world");
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(AtomicFile, WithoutCommitNothingIsLeftAndTheOldFileStays) {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  WriteText(path, "old");
  try {
    AtomicFile file(path);
    file.Write("new");
    throw Error(ErrorCode::kInvalidArgument, "something else went wrong");
  } catch (const Error&) {
  }
  EXPECT_EQ(ReadText(path), "old");
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(AtomicFile, ReplacesAnOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  WriteText(path, "old and longer");
  WriteFileAtomically(path, "new");
  EXPECT_EQ(ReadText(path), "new");
}

TEST(AtomicFile, TwoWritersOfOneTargetDoNotMeet) {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  AtomicFile first(path);
  AtomicFile second(path);
  first.Write("first");
  second.Write("second");
  first.Commit();
  EXPECT_EQ(ReadText(path), "first");
  second.Commit();
  EXPECT_EQ(ReadText(path), "second");
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(AtomicFile, WritesThroughALink) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "real");
  WriteText(folder / "real/out", "old");
  std::filesystem::create_symlink("real/out", folder / "link");
  WriteFileAtomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(ReadText(folder / "real/out"), "new");
}

TEST(AtomicFile, RefusesTargetsThatARenameWouldDestroy) {
  const TemporaryFolder folder;
  EXPECT_EQ(ErrorOf([&] { AtomicFile file(folder / ""); }),
            "io: " + (folder / "") + ": create: expected a file or a new name, got a directory");
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ErrorOf([&] { AtomicFile file(pipe); }),
            "io: " + pipe + ": create: expected a file or a new name, got a device or pipe");
  EXPECT_NE(ErrorOf([&] { AtomicFile file("/dev/null"); }), "no error");
}

TEST(AtomicFile, NamesAFolderThatIsMissing) {
  const TemporaryFolder folder;
  const std::string path = folder / "none/out";
  EXPECT_EQ(ErrorOf([&] { AtomicFile file(path); }),
            "io: " + path + ": create: expected success, got No such file or directory");
}

TEST(AtomicFile, RefusesTooManyAtOnceAndRecovers) {
  const TemporaryFolder folder;
  std::vector<std::unique_ptr<AtomicFile>> files;
  const std::string error = ErrorOf([&] {
    for (int i = 0; i < 100; ++i) {
      files.push_back(std::make_unique<AtomicFile>(folder / std::to_string(i)));
    }
  });
  EXPECT_NE(error.find("files being written at once"), std::string::npos);
  EXPECT_EQ(folder.Entries(), files.size());
  files.clear();
  EXPECT_EQ(folder.Entries(), 0u);
  WriteFileAtomically(folder / "out", "x");
  EXPECT_EQ(ReadText(folder / "out"), "x");
}

// Runs `body` in a child process and returns its wait status.
template <typename Body>
int InChild(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(AtomicFile, AFailedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  WriteText(path, "old");
  // A file-size limit stands for a full disk.
  const int status = InChild([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 1000, 1000 };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      WriteFileAtomically(path, std::string(5000, 'x'));
    } catch (const Error& error) {
      ::_exit(error.code() == ErrorCode::kIo ? 7 : 8);
    }
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(ReadText(path), "old");
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(AtomicFile, ASignalHandlerRemovesWhatIsPending) {
  const TemporaryFolder folder;
  const int status = InChild([&] {
    ::signal(SIGINT, [](int) {
      RemovePendingFiles();
      ::_exit(130);
    });
    WriteFileAtomically(folder / "done", "x");
    AtomicFile first(folder / "first");
    AtomicFile second(folder / "second");
    first.Write("half");
    ::raise(SIGINT);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_EQ(folder.Entries(), 1u);
  EXPECT_EQ(ReadText(folder / "done"), "x");
}

}  // namespace
}  // namespace elsa::io
