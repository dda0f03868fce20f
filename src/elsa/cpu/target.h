// Which instruction set the kernels use: found out at run time, or forced by ELSA_TARGET.
#ifndef ELSA_CPU_TARGET_H_
#define ELSA_CPU_TARGET_H_

#include <string>
#include <string_view>
#include <vector>

#include "elsa/cpu/kernels/kernel_set.h"

namespace elsa::cpu {

// From the plainest to the most capable; the last one that this processor runs is the default.
enum class Target {
  kPortable,       // what the compiler's baseline has: SSE2 on x86-64
  kNeon,           // Advanced SIMD, every 64-bit Arm
  kAvx2,           // with FMA and F16C: Haswell, Zen
  kAvx512,         // F, BW, DQ, VL: Skylake-X
  kAvx512Vpopcnt,  // with VPOPCNTDQ, VBMI2, VNNI: Ice Lake
  kAvx512Bf16,     // with BF16 dot products: Zen 4
  kAvx512Fp16,     // with FP16 arithmetic: Sapphire Rapids
};

struct TargetInfo {
  Target target;
  std::string_view name;          // as ELSA_TARGET takes it
  bool runs;                      // compiled in, and this processor has it
  std::string_view compiled_for;  // KernelSet::compiled_for; empty if not compiled in
};

std::string_view Name(Target target);

// Every target that this build knows of, plainest first.
std::vector<TargetInfo> Targets();

// The target in use: ELSA_TARGET if it is set (the one environment variable that the library
// reads, once), otherwise the most capable that runs here. Errors: kInvalidArgument if ELSA_TARGET
// names none, kUnsupported if it names one that does not run here; both list those that do.
Target SelectedTarget();

// The kernels of a target. Errors: kUnsupported unless it runs here.
const KernelSet& KernelsOf(Target target);

// The processor's brand, for reports; "unknown" where it does not say.
std::string ProcessorName();

}  // namespace elsa::cpu

#endif  // ELSA_CPU_TARGET_H_
