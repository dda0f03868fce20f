// The table of exact attention, and what is too small for a file of its own: masks and results.
#include "elsa/cpu/kernels/exact.h"

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/exact_bf16.h"
#include "elsa/cpu/kernels/exact_pack.h"
#include "elsa/cpu/kernels/exact_stream.h"
#include "elsa/cpu/kernels/exact_tiles.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {
namespace {

constexpr float kLog2E = 1.44269504088896f;

// One key's addend.
template <typename E>
ELSA_INLINE float AddendOf(const KeyBias& of, std::int64_t key, float lowest) {
  if (of.mask != nullptr && of.mask[key * of.mask_stride] == 0) return -kInfinity;
  if (of.bias == nullptr) return 0;
  const float bias = LoadElements<E>(of.bias + key * of.bias_stride * E::kBytes, 1)[0];
  return bias <= lowest ? -kInfinity : bias * kLog2E;
}

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

// kLanes keys' addends; mask and bias lie one key after the other.
template <typename E>
ELSA_INLINE F32 AddendsOf(const KeyBias& of, std::int64_t key, float lowest) {
  F32 addend{};
  I32 hidden{};
  if (of.bias != nullptr) {
    const F32 bias = E::Load(of.bias + key * E::kBytes);
    hidden = bias <= Splat(lowest);
    addend = bias * kLog2E;
  }
  if (of.mask != nullptr) {
    U8 mask;
    std::memcpy(&mask, of.mask + key, sizeof(mask));
    hidden |= __builtin_convertvector(mask, I32) == SplatInt(0);
  }
  return (F32)((hidden & (I32)Splat(-kInfinity)) | (~hidden & (I32)addend));
}

Seen MakeAddend(const KeyBias& of, std::int64_t count, float lowest, float* addend) {
  const bool dense =
      (of.mask == nullptr || of.mask_stride == 1) && (of.bias == nullptr || of.bias_stride == 1);
  const F32 hidden = Splat(-kInfinity);
  I32 seen{};
  I32 plain = SplatInt(-1);
  WithElement(of.element, [&](auto e) {
    using E = decltype(e);
    std::int64_t j = 0;
    for (; dense && j + kLanes <= count; j += kLanes) {
      const F32 x = AddendsOf<E>(of, j, lowest);
      seen |= x != hidden;
      plain &= x == F32{};
      Store(addend + j, x);
    }
    for (; j < count; ++j) {
      addend[j] = AddendOf<E>(of, j, lowest);
      seen[0] |= addend[j] != -kInfinity ? -1 : 0;
      plain[0] &= addend[j] == 0 ? -1 : 0;
    }
  });
  bool any = false;
  bool all = true;
  for (int i = 0; i < kLanes; ++i) {
    any = any || seen[i] != 0;
    all = all && plain[i] != 0;
  }
  return all ? Seen::kAllUnbiased : any ? Seen::kSome : Seen::kNothing;
}

ELSA_INLINE F32 Added(F32 score, F32 addend) {
  const F32 hidden = Splat(-kInfinity);
  const I32 is_hidden = addend == hidden;  // not the sum: a hidden score may be NaN
  return (F32)((is_hidden & (I32)hidden) | (~is_hidden & (I32)(score + addend)));
}

void Add(const float* addend, int count, float* scores) {
  int j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    Store(scores + j, Added(Load(scores + j), Load(addend + j)));
  }
  if (j == count) return;
  const int left = count - j;
  StorePart(scores + j, Added(LoadPart(scores + j, left), LoadPart(addend + j, left)), left);
}

void WriteRow(const float* sums, int d_v, float sum, Element element, std::byte* to) {
  WithElement(element, [&](auto e) {
    using E = decltype(e);
    for (int c = 0; c < d_v; c += kLanes) {
      const F32 x = Load(sums + c) / Splat(sum);
      StoreElements<E>(to + c * E::kBytes, x, d_v - c);
    }
  });
}

// Zen 4 multiplies pairs at full rate. The processors with AVX512-FP16 too take twice as long for
// them: no faster than binary32. ELSA_TEST_BF16_PAIRS: slow, to test the layouts elsewhere.
#if (defined(__AVX512BF16__) && !defined(__AVX512FP16__)) || defined(ELSA_TEST_BF16_PAIRS)
constexpr ExactKernels kBf16Pairs = {kTileRows,          kPanelKeys,        kLanes,
                                     QueryPairBytes,     KeyPairBytes,      ValuePairBytes,
                                     PackQueryPairs,     PackKeyPairs,      PackValuePairs,
                                     Scores<Bf16Pairs>,  MakeAddend,        Add,
                                     Softmax<Bf16Pairs>, Bf16Pairs::Weight, Accumulate<Bf16Pairs>,
                                     kStreamStride,      StreamQueries,     StreamScores,
                                     StreamAccumulate,   WriteRow,          nullptr};
constexpr const ExactKernels* kBf16 = &kBf16Pairs;
#else
constexpr const ExactKernels* kBf16 = nullptr;
#endif

}  // namespace

extern const ExactKernels kExact;
const ExactKernels kExact = {kTileRows,         kPanelKeys,       kLanes,
                             QueryBytes,        KeyBytes,         ValueBytes,
                             PackQueries,       PackKeys,         PackValues,
                             Scores<Binary32>,  MakeAddend,       Add,
                             Softmax<Binary32>, Binary32::Weight, Accumulate<Binary32>,
                             kStreamStride,     StreamQueries,    StreamScores,
                             StreamAccumulate,  WriteRow,         kBf16};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
