#include "elsa/cpu/kernels/decode.h"

#include "elsa/cpu/kernels/decode_rows.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {
namespace {

// Rows are used whole, a few at a time, in the order of their addresses: key, then value. Any other
// order (the keys of a block, then its values) defeats the processor's own prefetching; measured:
// 0.6 to 0.8 of the rate at which memory streams, against 1.0.
//
// Rows are asked for ahead of their use: adjacent ones by bytes, listed ones by entries. Our
// choice: the best of 1 KB to 16 KB and of 4 to 64 entries on Zen 3; flat around it.
constexpr std::int64_t kAheadBytes = 4096;
constexpr std::int64_t kAheadEntries = 16;
constexpr std::int64_t kLine = 64;

ELSA_INLINE F32 Larger(F32 a, F32 b) { return a > b ? a : b; }  // b if one is NaN

// Rows used side by side: what a query costs beside its products is shared by them.
template <int kQueries>
constexpr int kKeysOf = kQueries * 4 <= kLanes ? (kQueries == 4 ? 2 : 4) : kLanes / kQueries;

// Softmax over keys under way for kQueries queries; lane i belongs to query i % kCount / kKeys and
// key i % kKeys.
template <int kDType, int kQueries, int kVectors>
class Attention {
 public:
  static constexpr int kKeys = kKeysOf<kQueries>;
  static constexpr int kCount = kQueries * kKeys;
  static constexpr int kStep = kLanes * (kDType == 0 ? 4 : 2);  // bytes of a vector

  Attention(const DecodeRows& rows, DecodePart* parts) : rows_(rows), parts_(parts) {
    for (int i = 0; i < kLanes; ++i) peaks_[i] = parts[i % kCount / kKeys].peak;
    origins_ = Origins(peaks_);
  }

  // The weights of kKeys rows for every query, and of their first `real` only.
  ELSA_INLINE F32 Weigh(const std::byte* const* row, std::int64_t at, int real) {
    F32 x = SumsOf<kCount>(Products(row).sums);
    if (parts_[0].bias != nullptr) AddBias(at, real, x);
    if (real < kKeys) {
      for (int i = 0; i < kLanes; ++i) x[i] = i % kKeys < real ? x[i] : -__builtin_inff();
    }
    const I32 above = x > peaks_;
    if (__builtin_expect(Any(above), 0)) Raise(x);
    const F32 weights = Exp2(x - origins_);
    sums_ = sums_ + weights;
    return weights;
  }

  // values += weight * value, in `o` or where the parts are.
  ELSA_INLINE void Add(const std::byte* const* row, F32 weights) {
    alignas(64) float weight[kLanes];
    Store(weight, weights);
    const int count = Vectors(rows_.d_v);
    for (int z = 0; z < count; ++z) {
      F32 v[kKeys];
      for (int p = 0; p < kKeys; ++p) {
        v[p] = LoadCached<kDType>(row[p] + rows_.value_bytes + z * kStep);
      }
      for (int g = 0; g < kQueries; ++g) {
        float* at = parts_[g].values + z * kLanes;
        F32 sum = kInRegisters ? o_[z] : Load(at);
        for (int p = 0; p < kKeys; ++p) sum = Fma(Splat(weight[g * kKeys + p]), v[p], sum);
        if (kInRegisters) {
          o_[z] = sum;
        } else {
          Store(at, sum);
        }
      }
    }
  }

  void Finish() {
    for (int g = 0; g < kQueries; ++g) {
      float sum = 0;
      for (int p = 0; p < kKeys; ++p) sum += sums_[g * kKeys + p];
      parts_[g].sum += sum;
      parts_[g].peak = peaks_[g * kKeys];
      if (!kInRegisters) continue;
      float* at = parts_[g].values;
      for (int z = 0; z < kVectors; ++z) Store(at + z * kLanes, Load(at + z * kLanes) + o_[z]);
    }
  }

 private:
  static constexpr bool kInRegisters = kQueries == 1 && kVectors > 0 && kVectors <= kRegisters / 2;

  struct Partial {
    F32 sums[kCount];
  };

  static int Vectors(std::int64_t components) {
    return kVectors > 0 ? kVectors : static_cast<int>(components) / kLanes;
  }

  static bool Any(I32 mask) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    bool any = false;
    for (int i = 0; i < kLanes; ++i) any = any || mask[i] != 0;
    return any;
#endif
  }

  // With nothing above -infinity the weights are 0, not the NaN of a difference of infinities.
  static F32 Origins(F32 peaks) { return peaks == Splat(-__builtin_inff()) ? F32{} : peaks; }

  ELSA_INLINE Partial Products(const std::byte* const* row) const {
    Partial products{};
    const int count = Vectors(rows_.d);
    for (int z = 0; z < count; ++z) {
      for (int p = 0; p < kKeys; ++p) {
        const F32 k = LoadCached<kDType>(row[p] + z * kStep);
        for (int g = 0; g < kQueries; ++g) {
          const F32 q = Load(parts_[g].query + z * kLanes);
          F32& sum = products.sums[g * kKeys + p];
          sum = Fma(q, k, sum);
        }
      }
    }
    return products;
  }

  void AddBias(std::int64_t at, int real, F32& x) const {
    for (int i = 0; i < kLanes; ++i) {
      const int p = i % kKeys;
      if (p < real) x[i] += parts_[i % kCount / kKeys].bias[at + p];
    }
  }

  // Moves the peaks up to the largest of x, and everything that is relative to them. Rare.
  __attribute__((noinline)) void Raise(F32 x) {
    F32 next = Larger(x, peaks_);
    for (int p = 1; p < kKeys; p *= 2) {
      F32 other = next;
      for (int i = 0; i < kLanes; ++i) other[i] = next[i ^ p];
      next = Larger(other, next);
    }
    const F32 factors = Exp2(peaks_ - Origins(next));
    peaks_ = next;
    origins_ = Origins(next);
    sums_ = sums_ * factors;
    for (int g = 0; g < kQueries; ++g) {
      const float factor = factors[g * kKeys];
      parts_[g].sum *= factor;
      for (int z = 0; z < static_cast<int>(rows_.d_v) / kLanes; ++z) {
        float* at = parts_[g].values + z * kLanes;
        Store(at, Load(at) * Splat(factor));
      }
      if (!kInRegisters) continue;
      for (int z = 0; z < kVectors; ++z) o_[z] = o_[z] * Splat(factor);
    }
  }

  const DecodeRows& rows_;
  DecodePart* parts_;
  F32 peaks_;
  F32 origins_;
  F32 sums_{};
  F32 o_[kInRegisters ? kVectors : 1] = {};
};

ELSA_INLINE void Fetch(const std::byte* from, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at, 0, 2);
}

template <int kDType, int kQueries, int kVectors>
void AttendRows(const DecodeRows& rows, const DecodeKeys& keys, DecodePart* parts) {
  using Work = Attention<kDType, kQueries, kVectors>;
  Work work(rows, parts);
  const std::byte* row[Work::kKeys];
  for (std::int64_t j = 0; j < keys.count; j += Work::kKeys) {
    int real = 0;
    for (int p = 0; p < Work::kKeys; ++p) {
      const std::int64_t at = j + p < keys.count ? j + p : j;
      real += j + p < keys.count ? 1 : 0;
      if (keys.list == nullptr) {
        row[p] = rows.data + (keys.first + at) * rows.row_bytes;
        Fetch(row[p] + kAheadBytes, rows.row_bytes);  // past the end: no fault, and rare
      } else {
        row[p] = rows.data + keys.list[at] * rows.row_bytes;
        const std::int64_t next = j + p + kAheadEntries;
        if (next < keys.count + keys.ahead) {
          Fetch(rows.data + keys.list[next] * rows.row_bytes, rows.row_bytes);
        }
      }
    }
    const F32 weights = work.Weigh(row, j, real);
    work.Add(row, weights);
  }
  work.Finish();
}

template <int kDType, int kQueries>
void AttendQueries(const DecodeRows& rows, const DecodeKeys& keys, DecodePart* parts) {
  if (rows.d == 64 && rows.d_v == 64) {
    return AttendRows<kDType, kQueries, 64 / kLanes>(rows, keys, parts);
  }
  if (rows.d == 128 && rows.d_v == 128) {
    return AttendRows<kDType, kQueries, 128 / kLanes>(rows, keys, parts);
  }
  AttendRows<kDType, kQueries, 0>(rows, keys, parts);
}

template <int kDType>
void AttendType(const DecodeRows& rows, const DecodeKeys& keys, DecodePart* parts, int queries) {
  if (queries == 4) return AttendQueries<kDType, 4>(rows, keys, parts);
  for (; queries >= 2; queries -= 2, parts += 2) AttendQueries<kDType, 2>(rows, keys, parts);
  if (queries == 1) AttendQueries<kDType, 1>(rows, keys, parts);
}

void Attend(const DecodeRows& rows, const DecodeKeys& keys, DecodePart* parts, int queries) {
  if (keys.count == 0) return;
  if (rows.dtype == 0) return AttendType<0>(rows, keys, parts, queries);
  if (rows.dtype == 1) return AttendType<1>(rows, keys, parts, queries);
  AttendType<2>(rows, keys, parts, queries);
}

std::int64_t List(const std::uint64_t* mask, std::int64_t words, std::uint32_t* keys) {
  std::int64_t count = 0;
  for (std::int64_t w = 0; w < words; ++w) {
    for (std::uint64_t left = mask[w]; left != 0; left &= left - 1) {
      keys[count++] = static_cast<std::uint32_t>(64 * w + __builtin_ctzll(left));
    }
  }
  return count;
}

}  // namespace

extern const DecodeKernels kDecode;
const DecodeKernels kDecode = {Attend, List};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
