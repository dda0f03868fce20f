// A progress bar on stderr. Drawn only when stderr is a terminal, and erased at the end, so that
// logs and pipes never see it.
#ifndef ELSA_TOOLS_PROGRESS_H_
#define ELSA_TOOLS_PROGRESS_H_

#include <cstdint>
#include <string>

namespace elsa {

class Progress {
 public:
  // `total` steps of `label`.
  Progress(std::string label, std::int64_t total);
  // Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more step is done.
  void Step();

 private:
  void Draw() const;

  std::string label_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  bool terminal_;
};

}  // namespace elsa

#endif  // ELSA_TOOLS_PROGRESS_H_
