#include "elsa/cpu/inputs.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "elsa/base/error.h"

namespace elsa::cpu {
namespace {

// A call whose arguments lie one behind the other in one block of memory, so that any of them can
// be moved onto any other: batch 2, heads 2, one head of keys, 3 queries, 5 keys, d 4, d_v 4.
struct Call {
  static constexpr std::int64_t kArgument = 1024;  // bytes for each
  alignas(64) std::array<std::byte, 10 * kArgument> memory{};
  Inputs inputs;
  MutableTensor out;
  View<float, 3> log_sum_exp;

  std::byte* At(int argument) { return memory.data() + argument * kArgument; }
  View<float, 4> Floats(int argument, const std::array<std::int64_t, 4>& shape) {
    return {reinterpret_cast<float*>(At(argument)), shape};
  }
  std::span<std::int64_t> Lengths(int argument) {
    auto* lengths = reinterpret_cast<std::int64_t*>(At(argument));
    lengths[0] = lengths[1] = 1;
    return {lengths, 2};
  }

  Call(const Call&) = delete;
  Call() {
    inputs.query = View<const float, 4>(Floats(0, {2, 2, 3, 4}));
    inputs.key = View<const float, 4>(Floats(1, {2, 1, 5, 4}));
    inputs.value = View<const float, 4>(Floats(2, {2, 1, 5, 4}));
    inputs.mask = {reinterpret_cast<const std::uint8_t*>(At(3)), {2, 2, 3, 5}};
    inputs.bias = View<const float, 4>(Floats(4, {2, 2, 3, 5}));
    inputs.query_lengths = Lengths(5);
    inputs.key_lengths = Lengths(6);
    out = Floats(7, {2, 2, 3, 4});
    log_sum_exp = {reinterpret_cast<float*>(At(8)), {2, 2, 3}};
  }
  // "" or what ValidateInputs says.
  std::string Says() const {
    try {
      ValidateInputs(inputs, out, log_sum_exp);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  }
};

constexpr const char* kInputs[] = {"query", "key",           "value",      "mask",
                                   "bias",  "query_lengths", "key_lengths"};
// Bytes of each of them, and of out and log_sum_exp.
constexpr std::int64_t kBytes[] = {192, 160, 160, 60, 240, 16, 16};
constexpr std::int64_t kOutBytes = 192;
constexpr std::int64_t kLogSumExpBytes = 48;

TEST(Inputs, OutputsApartFromEverythingAreTaken) {
  Call call;
  EXPECT_EQ(call.Says(), "");
  call.log_sum_exp = {};
  EXPECT_EQ(call.Says(), "");
  // Side by side, without a byte between them.
  for (int i = 0; i < 7; ++i) {
    Call next;
    next.out.data = next.At(i) + (kBytes[i] + 3) / 4 * 4;
    EXPECT_EQ(next.Says(), "") << kInputs[i];
    Call before;
    before.log_sum_exp.data = reinterpret_cast<float*>(before.At(i + 1) - kLogSumExpBytes);
    EXPECT_EQ(before.Says(), "") << kInputs[i];
  }
}

TEST(Inputs, AnOutputThatOverlapsAnInputIsRefused) {
  for (int i = 0; i < 7; ++i) {
    const std::int64_t last = (kBytes[i] - 1) / 4 * 4;
    const std::string overlap = std::string(", got an overlap with ") + kInputs[i];
    for (const std::int64_t offset : {-(kOutBytes - 4), std::int64_t{0}, last}) {
      if (i == 0 && offset < 0) continue;  // before the memory
      Call call;
      call.out.data = call.At(i) + offset;
      EXPECT_EQ(call.Says(), "out: expected memory apart from the inputs" + overlap) << offset;
    }
    for (const std::int64_t offset : {-(kLogSumExpBytes - 4), std::int64_t{0}, last}) {
      if (i == 0 && offset < 0) continue;
      Call call;
      call.log_sum_exp.data = reinterpret_cast<float*>(call.At(i) + offset);
      EXPECT_EQ(call.Says(), "log_sum_exp: expected memory apart from the inputs and out" + overlap)
          << offset;
    }
  }
}

TEST(Inputs, OutputsThatOverlapEachOtherAreRefused) {
  for (const std::int64_t offset : {-(kLogSumExpBytes - 4), std::int64_t{0}, kOutBytes - 4}) {
    Call call;
    call.log_sum_exp.data = reinterpret_cast<float*>(call.out.data + offset);
    EXPECT_EQ(call.Says(),
              "log_sum_exp: expected memory apart from the inputs and out, got "
              "an overlap with out");
  }
  // Also where its elements lie between those of out.
  Call between;
  between.out.stride = {30, 15, 5, 1};
  between.log_sum_exp = {reinterpret_cast<float*>(between.out.data) + 4, {2, 2, 3}, {30, 15, 5}};
  EXPECT_NE(between.Says().find("overlap with out"), std::string::npos);
}

TEST(Inputs, AnOutputThatOverlapsItselfIsRefused) {
  const auto refused = [](const char* name, const Call& call) {
    EXPECT_EQ(call.Says(), std::string("") + name +
                               ": expected elements that do not overlap, got strides that make "
                               "them");
  };
  for (int i = 0; i < 3; ++i) {
    Call call;
    call.out.stride[i] = 0;
    refused("out", call);
    Call sums;
    sums.log_sum_exp.stride[i] = 0;
    refused("log_sum_exp", sums);
  }
  Call close;
  close.log_sum_exp.stride = {6, 2, 1};  // the third query of a head is the first one of the next
  refused("log_sum_exp", close);
  close.log_sum_exp.stride = {-6, -2, 1};
  refused("log_sum_exp", close);
}

TEST(Inputs, LogSumExpOfAnyStridesIsTakenIfItsElementsAreApart) {
  Call call;
  call.log_sum_exp.stride = {1, 2, 4};
  EXPECT_EQ(call.Says(), "");
  call.log_sum_exp = {reinterpret_cast<float*>(call.At(8)) + 11, {2, 2, 3}, {-6, -3, -1}};
  EXPECT_EQ(call.Says(), "");
  // Strides of extents of 1 or 0 lead nowhere.
  call.inputs.query.shape[0] = call.inputs.key.shape[0] = call.inputs.value.shape[0] = 1;
  call.inputs.mask = {};
  call.inputs.bias = {};
  call.inputs.query_lengths = call.inputs.key_lengths = {};
  call.out.shape[0] = 1;
  call.log_sum_exp = {reinterpret_cast<float*>(call.At(8)), {1, 2, 3}, {0, 3, 1}};
  EXPECT_EQ(call.Says(), "");
  call.inputs.query.shape[2] = call.out.shape[2] = 0;
  call.log_sum_exp = {reinterpret_cast<float*>(call.out.data), {1, 2, 0}, {0, 0, 0}};
  EXPECT_EQ(call.Says(), "");
}

TEST(Inputs, LogSumExpThatDoesNotFitIsRefused) {
  const auto says = [](auto change) {
    Call call;
    change(call);
    return call.Says();
  };
  EXPECT_EQ(says([](Call& c) {
              c.log_sum_exp = {c.log_sum_exp.data, {2, 3, 2}};
            }),
            "log_sum_exp: expected shape [2, 2, 3, 1], got [2, 3, 2, 1]");
  EXPECT_EQ(says([](Call& c) { c.log_sum_exp.shape[1] = -2; }),
            "log_sum_exp: expected no negative extent, got -2");
  EXPECT_EQ(says([](Call& c) { c.log_sum_exp.stride[0] = INT64_MAX / 2; }),
            "log_sum_exp: expected extents and strides within the memory of a machine, got larger "
            "ones");
  EXPECT_EQ(says([](Call& c) { c.log_sum_exp.data = reinterpret_cast<float*>(c.At(8) + 1); }),
            "log_sum_exp: expected an address that is a multiple of 4, got a misaligned one");
}

}  // namespace
}  // namespace elsa::cpu
