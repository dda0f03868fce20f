#include "elsa/output_error.h"

#include <cmath>
#include <limits>

namespace elsa {

double OutputError::Relative() const {
  if (exact > 0) return std::sqrt(difference / exact);
  return difference > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

OutputError& OutputError::operator+=(const OutputError& other) {
  difference += other.difference;
  exact += other.exact;
  return *this;
}

OutputError ErrorOf(const View<float, 4>& output, const View<double, 4>& exact, std::int64_t head) {
  OutputError error;
  for (std::int64_t b = 0; b < output.shape[0]; ++b) {
    for (std::int64_t i = 0; i < output.shape[2]; ++i) {
      for (std::int64_t c = 0; c < output.shape[3]; ++c) {
        const double e = exact(b, head, i, c);
        const double difference = output(b, head, i, c) - e;
        error.difference += difference * difference;
        error.exact += e * e;
      }
    }
  }
  return error;
}

}  // namespace elsa
