// output_rel_l2: how far outputs are from exact attention in double.
#ifndef ELSA_TOOLS_OUTPUT_ERROR_H_
#define ELSA_TOOLS_OUTPUT_ERROR_H_

#include <cstdint>

#include "elsa/base/view.h"

namespace elsa {

// Squared norms, so that heads add up.
struct OutputError {
  double difference = 0;  // of output and exact
  double exact = 0;

  // |output - exact| / |exact|. Without any exact output to compare with: 0 if none was made
  // either.
  double Relative() const;
  OutputError& operator+=(const OutputError& other);
};

// The error of one head. Shapes: [batch, heads, n_q, d_v] both; padded rows are 0 in both.
OutputError ErrorOf(const View<float, 4>& output, const View<double, 4>& exact, std::int64_t head);

}  // namespace elsa

#endif  // ELSA_TOOLS_OUTPUT_ERROR_H_
