#include "elsa/cpu/kernels/select.h"

#include "elsa/cpu/kernels/bit_filter.h"
#include "elsa/cpu/kernels/bit_tables.h"
#include "elsa/cpu/kernels/cut_offs.h"
#include "elsa/cpu/kernels/hash_rows.h"
#include "elsa/cpu/kernels/row_filter.h"
#include "elsa/cpu/kernels/score_test.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {
namespace {

// Calls work.operator()<kBits>() with the shortest filter that takes k bits.
template <typename Work>
void WithFilterFor(std::int64_t k, const Work& work) {
  if (k <= 32) return work.template operator()<32>();
  if (k <= 64) return work.template operator()<64>();
  if (k <= 128) return work.template operator()<128>();
  work.template operator()<256>();
}

SelectKernels::FilterSizes FilterSizes(std::int64_t k) {
  SelectKernels::FilterSizes sizes{};
  if (k > 256) return sizes;
  WithFilterFor(k, [&]<int kBits>() {
    using Shape = FilterShape<kBits>;
    sizes = {Shape::kTableVectors * kVectorBytes, Shape::kLimitVectors * kVectorBytes,
             Shape::kPatterns};
  });
  return sizes;
}

void BuildTable(const std::uint64_t* bits, std::int64_t count, std::int64_t k, std::byte* table) {
  WithFilterFor(k, [&]<int kBits>() { BuildTableOf<kBits>(bits, count, (k + 63) / 64, table); });
}

void BuildLimits(const std::int16_t* cut_offs, std::int64_t count, std::int64_t k,
                 std::byte* limits) {
  WithFilterFor(k, [&]<int kBits>() { BuildLimitsOf<kBits>(cut_offs, count, k, limits); });
}

void QueryPatterns(const std::uint64_t* bits, std::int64_t count, std::int64_t k,
                   std::uint16_t* patterns) {
  WithFilterFor(k,
                [&]<int kBits>() { QueryPatternsOf<kBits>(bits, count, (k + 63) / 64, patterns); });
}

void FilterBlock(const std::byte* table, const std::byte* limits, const std::uint16_t* patterns,
                 std::int64_t queries, std::int64_t k, std::uint64_t* masks, std::int64_t stride) {
  WithFilterFor(k, [&]<int kBits>() {
    FilterBlockOf<kBits>(table, limits, patterns, queries, masks, stride);
  });
}

}  // namespace

extern const SelectKernels kSelect;
const SelectKernels kSelect = {HashScratch, HashRows,    CutOffs,    FilterRows,  Similarities,
                               kBlockKeys,  FilterSizes, BuildTable, BuildLimits, QueryPatterns,
                               FilterBlock, Scores,      BiasTest,   GapTest,     FirstLargest,
                               MaskBits,    WidenRow,    AboveBits,  KeepVisible};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
