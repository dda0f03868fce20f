#include "elsa/io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

std::string Text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  const TemporaryFolder folder;
  const std::string text = std::string(10000, 'x') + '\0' + "end";
  WriteText(folder / "f", text);
  EXPECT_EQ(Text(MappedFile(folder / "f")), text);
}

TEST(MappedFile, MapsAnEmptyFile) {
  const TemporaryFolder folder;
  WriteText(folder / "f", "");
  EXPECT_TRUE(MappedFile(folder / "f").bytes().empty());
}

TEST(MappedFile, MovesItsMapping) {
  const TemporaryFolder folder;
  WriteText(folder / "a", "aaa");
  WriteText(folder / "b", "bb");
  MappedFile first(folder / "a");
  MappedFile second(std::move(first));
  EXPECT_EQ(Text(second), "aaa");
  MappedFile third(folder / "b");
  third = std::move(second);
  EXPECT_EQ(Text(third), "aaa");
}

TEST(MappedFile, OutlivesTheNameOfItsFile) {
  const TemporaryFolder folder;
  WriteText(folder / "f", "text");
  const MappedFile file(folder / "f");
  std::filesystem::remove(folder / "f");
  EXPECT_EQ(Text(file), "text");
}

TEST(MappedFile, NamesPathAndReason) {
  const TemporaryFolder folder;
  EXPECT_EQ(ErrorOf([&] { MappedFile file(folder / "none"); }),
            "io: " + (folder / "none") + ": open: expected success, got No such file or directory");
  EXPECT_EQ(ErrorOf([&] { MappedFile file(folder / ""); }),
            "io: " + (folder / "") + ": open: expected a file, got a directory");
}

TEST(MappedFile, RefusesPipesWithoutWaiting) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ErrorOf([&] { MappedFile file(pipe); }),
            "io: " + pipe + ": open: expected a file, got a device or pipe");
}

}  // namespace
}  // namespace elsa::io
