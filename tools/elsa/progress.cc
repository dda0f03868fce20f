#include "elsa/progress.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <utility>

namespace elsa {

Progress::Progress(std::string label, std::int64_t total)
    : label_(std::move(label)), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {
  Draw();
}

Progress::~Progress() {
  if (terminal_) std::cerr << "\r\x1b[K" << std::flush;
}

void Progress::Step() {
  ++done_;
  Draw();
}

void Progress::Draw() const {
  if (!terminal_) return;
  constexpr std::int64_t kWidth = 30;  // Our choice: label, bar and count fit 80 columns.
  const std::int64_t filled = kWidth * done_ / std::max<std::int64_t>(total_, 1);
  std::cerr << "\r\x1b[K" << label_ << " [" << std::string(filled, '#')
            << std::string(kWidth - filled, '.') << "] " << done_ << "/" << total_ << std::flush;
}

}  // namespace elsa
