// Random matrices with orthonormal rows, by the modified Gram-Schmidt process.
// Source: Sec. III-B "Sign Random Projection".
#ifndef ELSA_REFERENCE_GRAM_SCHMIDT_H_
#define ELSA_REFERENCE_GRAM_SCHMIDT_H_

#include <cstdint>
#include <vector>

#include "elsa/base/random.h"

namespace elsa::reference {

// A row-major rows x cols matrix of independent standard normal values.
std::vector<double> RandomNormalMatrix(std::int64_t rows, std::int64_t cols, Random& random);

// A row-major rows x cols matrix with orthonormal rows, uniformly distributed up to the process:
// standard normal rows, orthogonalised one after the other in double.
// Shapes: 1 <= rows <= cols. Errors: kInvalidArgument otherwise.
std::vector<double> RandomOrthonormalRows(std::int64_t rows, std::int64_t cols, Random& random);

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_GRAM_SCHMIDT_H_
