#include "elsa/cpu/kernels/select.h"

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {
namespace {

float ElementOf(const RowsView& rows, std::int64_t row, std::int64_t c) {
  if (rows.dtype == 0) {
    float value;
    std::memcpy(&value, rows.data + 4 * (row * rows.stride + c), 4);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, rows.data + 2 * (row * rows.stride + c), 2);
  std::uint32_t bits = std::uint32_t{half} << 16;  // bfloat16
  if (rows.dtype == 1) {
    const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
    const std::uint32_t exponent = (half >> 10) & 0x1f;
    const std::uint32_t mantissa = half & 0x3ff;
    if (exponent == 0) {
      const float value = static_cast<float>(mantissa) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    bits = sign | (exponent == 0x1f ? 0x7f800000u : (exponent + 112) << 23) | (mantissa << 13);
  }
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

std::int64_t HadamardSize(const HashView& hash) { return hash.batches[0].factors[0].cols; }

std::int64_t HashScratch(const HashView& hash) {
  const std::int64_t size = hash.hadamard ? HadamardSize(hash) : hash.d;
  return 3 * size;
}

void ApplyFactor(const HashFactor& factor, const float* in, std::int64_t outer, std::int64_t inner,
                 float* out) {
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t r = 0; r < factor.rows; ++r) {
      for (std::int64_t i = 0; i < inner; ++i) {
        float sum = 0;
        for (std::int64_t c = 0; c < factor.cols; ++c) {
          const float product =
              factor.values[r * factor.cols + c] * in[(o * factor.cols + c) * inner + i];
          sum = c == 0 ? product : sum + product;
        }
        out[(o * factor.rows + r) * inner + i] = sum;
      }
    }
  }
}

void ApplyHadamard(const HashBatchView& batch, std::int64_t size, float* y) {
  for (std::int64_t f = 0; f < batch.factor_count; ++f) {
    for (std::int64_t i = 0; i < size; ++i) {
      if (!(batch.factors[f].values[i] > 0)) y[i] = -y[i];
    }
    for (std::int64_t half = 1; half < size; half *= 2) {
      for (std::int64_t i = 0; i < size; ++i) {
        if ((i & half) != 0) continue;
        const float a = y[i];
        const float b = y[i + half];
        y[i] = a + b;
        y[i + half] = a - b;
      }
    }
  }
}

void HashRows(const HashView& hash, const RowsView& rows, const float* origin, float* scratch,
              std::uint64_t* bits, float* norms) {
  const std::int64_t size = hash.hadamard ? HadamardSize(hash) : hash.d;
  float* x = scratch;
  float* y = scratch + size;
  float* z = y + size;
  for (std::int64_t row = 0; row < rows.count; ++row) {
    float sums[16] = {};
    for (std::int64_t i = 0; i < size; ++i) x[i] = 0;
    for (std::int64_t c = 0; c < hash.components; ++c) {
      float value = ElementOf(rows, row, c);
      if (origin != nullptr) value -= origin[c];
      x[hash.positions[c]] = value;
      sums[c % 16] += value * value;
    }
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    if (norms != nullptr) norms[row] = __builtin_sqrtf(sums[0]);
    std::uint64_t* to = bits + row * hash.words();
    for (std::int64_t w = 0; w < hash.words(); ++w) to[w] = 0;
    std::int64_t bit = 0;
    for (std::int64_t b = 0; b < hash.batch_count; ++b) {
      const HashBatchView& batch = hash.batches[b];
      for (std::int64_t i = 0; i < size; ++i) y[i] = x[i];
      if (hash.hadamard) {
        ApplyHadamard(batch, size, y);
      } else {
        std::int64_t outer = hash.d;
        std::int64_t inner = 1;
        for (std::int64_t f = batch.factor_count; f-- > 0;) {
          outer /= batch.factors[f].cols;
          ApplyFactor(batch.factors[f], y, outer, inner, z);
          inner *= batch.factors[f].rows;
          float* swap = y;
          y = z;
          z = swap;
        }
      }
      for (std::int64_t i = 0; i < batch.bits; ++i, ++bit) {
        to[bit / 64] |= std::uint64_t{y[i] >= 0 ? 1u : 0u} << (bit % 64);
      }
    }
  }
}

void CutOffs(const float* norms, std::int64_t count, const float* cosines, std::int64_t k,
             float cut, std::int16_t* cut_offs) {
  for (std::int64_t j = 0; j < count; ++j) {
    const float norm = norms[j];
    if (!(norm <= 0x1.fffffep127f)) {
      cut_offs[j] = static_cast<std::int16_t>(k);
      continue;
    }
    std::int64_t below = -1;  // passes, or the start
    std::int64_t above = k + 1;
    while (above - below > 1) {
      const std::int64_t middle = (below + above) / 2;
      (norm * cosines[middle] > cut ? below : above) = middle;
    }
    cut_offs[j] = static_cast<std::int16_t>(below);
  }
}

int Distance(const std::uint64_t* a, const std::uint64_t* b, std::int64_t words) {
  int distance = 0;
  for (std::int64_t w = 0; w < words; ++w) distance += __builtin_popcountll(a[w] ^ b[w]);
  return distance;
}

void FilterRows(const std::uint64_t* query, const std::uint64_t* keys, const std::int16_t* cut_offs,
                std::int64_t count, std::int64_t words, std::uint64_t* mask) {
  for (std::int64_t w = 0; w < (count + 63) / 64; ++w) mask[w] = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    const bool keep = Distance(query, keys + j * words, words) <= cut_offs[j];
    mask[j / 64] |= std::uint64_t{keep ? 1u : 0u} << (j % 64);
  }
}

void Similarities(const std::uint64_t* query, const std::uint64_t* keys, const float* norms,
                  const float* cosines, std::int64_t count, std::int64_t words,
                  float* similarities) {
  for (std::int64_t j = 0; j < count; ++j) {
    similarities[j] = norms[j] * cosines[Distance(query, keys + j * words, words)];
  }
}

}  // namespace

extern const SelectKernels kSelect;
const SelectKernels kSelect = {HashScratch, HashRows, CutOffs, FilterRows, Similarities};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
