#include "elsa/cpu/target.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "elsa/base/error.h"

namespace elsa::cpu {

#define ELSA_DECLARE_TARGET(target) \
  namespace target {                \
  extern const KernelSet kKernels;  \
  }
ELSA_DECLARE_TARGET(portable)
ELSA_DECLARE_TARGET(neon)
ELSA_DECLARE_TARGET(avx2)
ELSA_DECLARE_TARGET(avx512)
ELSA_DECLARE_TARGET(avx512_vpopcnt)
ELSA_DECLARE_TARGET(avx512_bf16)
ELSA_DECLARE_TARGET(avx512_fp16)
#undef ELSA_DECLARE_TARGET

namespace {

#if defined(__x86_64__)

// What the processor has and the operating system saves.
struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_vpopcnt = false;
  bool avx512_bf16 = false;
  bool avx512_fp16 = false;
};

bool Bit(unsigned value, int bit) { return ((value >> bit) & 1) != 0; }

Features Detect() {
  Features found;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !Bit(c, 27)) return found;  // 27: OSXSAVE
  const bool fma_f16c_popcnt = Bit(c, 12) && Bit(c, 29) && Bit(c, 23);
  unsigned saved = 0;
  unsigned high = 0;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  unsigned extended = 0;
  __get_cpuid(0x80000001, &a, &b, &extended, &d);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  unsigned a1 = 0;
  unsigned ignored = 0;
  __get_cpuid_count(7, 1, &a1, &ignored, &ignored, &ignored);

  const bool bmi_lzcnt = Bit(b, 3) && Bit(b, 8) && Bit(extended, 5);
  found.avx2 = (saved & 0x06) == 0x06 && fma_f16c_popcnt && Bit(b, 5) && bmi_lzcnt;
  found.avx512 =
      found.avx2 && (saved & 0xe6) == 0xe6 && Bit(b, 16) && Bit(b, 17) && Bit(b, 30) && Bit(b, 31);
  found.avx512_vpopcnt =
      found.avx512 && Bit(c, 14) && Bit(c, 1) && Bit(c, 6) && Bit(c, 11) && Bit(c, 12);
  found.avx512_bf16 = found.avx512_vpopcnt && Bit(a1, 5);
  found.avx512_fp16 = found.avx512_bf16 && Bit(d, 23);
#if defined(ELSA_EMULATED_AVX512)  // a test program whose kernels need no more (tests/emulated)
  found.avx512 = found.avx512_vpopcnt = found.avx512_bf16 = found.avx512_fp16 = found.avx2;
#endif
  return found;
}

const Features& Processor() {
  static const Features features = Detect();
  return features;
}

#endif

// The table of a target; null if it was not compiled in.
const KernelSet* Compiled(Target target) {
  switch (target) {
    case Target::kPortable:
      return &portable::kKernels;
#if defined(ELSA_HAS_TARGET_neon)
    case Target::kNeon:
      return &neon::kKernels;
#endif
#if defined(ELSA_HAS_TARGET_avx2)
    case Target::kAvx2:
      return &avx2::kKernels;
#endif
#if defined(ELSA_HAS_TARGET_avx512)
    case Target::kAvx512:
      return &avx512::kKernels;
#endif
#if defined(ELSA_HAS_TARGET_avx512_vpopcnt)
    case Target::kAvx512Vpopcnt:
      return &avx512_vpopcnt::kKernels;
#endif
#if defined(ELSA_HAS_TARGET_avx512_bf16)
    case Target::kAvx512Bf16:
      return &avx512_bf16::kKernels;
#endif
#if defined(ELSA_HAS_TARGET_avx512_fp16)
    case Target::kAvx512Fp16:
      return &avx512_fp16::kKernels;
#endif
    default:
      return nullptr;
  }
}

bool ProcessorHas(Target target) {
  switch (target) {
    case Target::kPortable:
      return true;
#if defined(__aarch64__)
    case Target::kNeon:
      return true;
#endif
#if defined(__x86_64__)
    case Target::kAvx2:
      return Processor().avx2;
    case Target::kAvx512:
      return Processor().avx512;
    case Target::kAvx512Vpopcnt:
      return Processor().avx512_vpopcnt;
    case Target::kAvx512Bf16:
      return Processor().avx512_bf16;
    case Target::kAvx512Fp16:
      return Processor().avx512_fp16;
#endif
    default:
      return false;
  }
}

bool Runs(Target target) { return Compiled(target) != nullptr && ProcessorHas(target); }

constexpr Target kAll[] = {Target::kPortable,  Target::kNeon,          Target::kAvx2,
                           Target::kAvx512,    Target::kAvx512Vpopcnt, Target::kAvx512Bf16,
                           Target::kAvx512Fp16};

std::string RunningNames() {
  std::string names;
  for (Target target : kAll) {
    if (!Runs(target)) continue;
    if (!names.empty()) names += ", ";
    names += Name(target);
  }
  return names;
}

Target Select() {
  Target best = Target::kPortable;
  for (Target target : kAll) {
    if (Runs(target)) best = target;
  }
  const char* forced = std::getenv("ELSA_TARGET");
  if (forced == nullptr || *forced == '\0') return best;
  for (Target target : kAll) {
    if (Name(target) != forced) continue;
    if (Runs(target)) return target;
    throw Error(ErrorCode::kUnsupported, "ELSA_TARGET: expected a target that runs here (" +
                                             RunningNames() + "), got " + forced);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "ELSA_TARGET: expected one of " + RunningNames() + ", got " + forced);
}

}  // namespace

std::string_view Name(Target target) {
  switch (target) {
    case Target::kPortable:
      return "portable";
    case Target::kNeon:
      return "neon";
    case Target::kAvx2:
      return "avx2";
    case Target::kAvx512:
      return "avx512";
    case Target::kAvx512Vpopcnt:
      return "avx512_vpopcnt";
    case Target::kAvx512Bf16:
      return "avx512_bf16";
    case Target::kAvx512Fp16:
      return "avx512_fp16";
  }
  return "";
}

std::vector<TargetInfo> Targets() {
  std::vector<TargetInfo> list;
  for (Target target : kAll) {
    const KernelSet* kernels = Compiled(target);
    list.push_back({target, Name(target), Runs(target),
                    kernels != nullptr ? kernels->compiled_for : std::string_view()});
  }
  return list;
}

Target SelectedTarget() {
  static const Target selected = Select();
  return selected;
}

const KernelSet& KernelsOf(Target target) {
  if (Runs(target)) return *Compiled(target);
  throw Error(ErrorCode::kUnsupported, "target: expected one that runs here (" + RunningNames() +
                                           "), got " + std::string(Name(target)));
}

std::string ProcessorName() {
#if defined(__x86_64__)
  unsigned words[12] = {};
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    unsigned* w = words + 4 * leaf;
    if (__get_cpuid(0x80000002 + leaf, w, w + 1, w + 2, w + 3) == 0) return "unknown";
  }
  char text[sizeof(words) + 1] = {};
  std::memcpy(text, words, sizeof(words));
  std::string name(text);
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "unknown" : name;
#else
  return "unknown";
#endif
}

}  // namespace elsa::cpu
