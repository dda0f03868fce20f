#include "elsa/reference/gram_schmidt.h"

#include <cmath>
#include <string>

#include "elsa/base/error.h"

namespace elsa::reference {

std::vector<double> RandomNormalMatrix(std::int64_t rows, std::int64_t cols, Random& random) {
  std::vector<double> matrix(rows * cols);
  for (double& value : matrix) value = random.Normal();
  return matrix;
}

std::vector<double> RandomOrthonormalRows(std::int64_t rows, std::int64_t cols, Random& random) {
  if (rows < 1 || rows > cols) {
    throw Error(ErrorCode::kInvalidArgument, "orthonormal rows: expected 1 to " +
                                                 std::to_string(cols) + " rows, got " +
                                                 std::to_string(rows));
  }
  std::vector<double> matrix(rows * cols);
  for (std::int64_t i = 0; i < rows; ++i) {
    double* row = &matrix[i * cols];
    double norm = 0;
    // A row that nearly lies in the span of the earlier ones would lose its orthogonality to
    // rounding: draw again. (Our choice of 0.01; a fresh row is this short about once in 125 for
    // the last row of a square matrix.)
    while (norm < 0.01) {
      for (std::int64_t j = 0; j < cols; ++j) row[j] = random.Normal();
      for (std::int64_t earlier = 0; earlier < i; ++earlier) {
        const double* other = &matrix[earlier * cols];
        double along = 0;
        for (std::int64_t j = 0; j < cols; ++j) along += row[j] * other[j];
        for (std::int64_t j = 0; j < cols; ++j) row[j] -= along * other[j];
      }
      double square = 0;
      for (std::int64_t j = 0; j < cols; ++j) square += row[j] * row[j];
      norm = std::sqrt(square);
    }
    for (std::int64_t j = 0; j < cols; ++j) row[j] /= norm;
  }
  return matrix;
}

}  // namespace elsa::reference
