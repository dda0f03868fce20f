# The kernels of the layer cpu: every src/elsa/cpu/kernels/*.cc is compiled once per instruction set,
# in a namespace of its own, and all of them are linked into elsa_cpu, which picks one at run time
# (elsa/cpu/target.h). Kernel files include no C++ library but <cstddef>, <cstdint> and <cstring>:
# an inline function of the library, compiled for a newer processor, could be the one that the
# linker keeps for everybody (tests/lint/kernel_objects_test.py looks).
include(CheckCXXCompilerFlag)

set(ELSA_CPU_avx512_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mbmi -mbmi2
                          -mpopcnt -mlzcnt -mprefer-vector-width=512)
set(ELSA_CPU_avx512_vpopcnt_FLAGS ${ELSA_CPU_avx512_FLAGS} -mavx512vpopcntdq -mavx512vbmi
                                  -mavx512vbmi2 -mavx512vnni -mavx512bitalg)
set(ELSA_CPU_avx512_bf16_FLAGS ${ELSA_CPU_avx512_vpopcnt_FLAGS} -mavx512bf16)
set(ELSA_CPU_avx512_fp16_FLAGS ${ELSA_CPU_avx512_bf16_FLAGS} -mavx512fp16)
set(ELSA_CPU_avx2_FLAGS -mavx2 -mfma -mf16c -mbmi -mbmi2 -mpopcnt -mlzcnt)
set(ELSA_CPU_neon_FLAGS "")
set(ELSA_CPU_portable_FLAGS "")

function(elsa_add_cpu_kernels library)
  set(dir ${CMAKE_CURRENT_SOURCE_DIR}/src/elsa/cpu/kernels)
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  set(targets portable)
  # A sanitizer's checks in unrolled tiles take the compiler minutes at -O3.
  set(optimize -O3)
  if(ELSA_SANITIZE)
    set(optimize -O1)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|i.86)$")
    list(APPEND targets avx2 avx512 avx512_vpopcnt avx512_bf16 avx512_fp16)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    list(APPEND targets neon)
  endif()
  foreach(target IN LISTS targets)
    set(flags ${ELSA_CPU_${target}_FLAGS})
    if(flags)
      string(REPLACE ";" " " joined "${flags}")
      check_cxx_compiler_flag("${joined}" ELSA_COMPILES_${target})
      if(NOT ELSA_COMPILES_${target})
        continue()
      endif()
    endif()
    add_library(${library}_${target} OBJECT ${sources})
    target_include_directories(${library}_${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
    target_compile_options(${library}_${target} PRIVATE ${optimize} ${flags})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # False alarms inside the compiler's own AVX-512 header.
      target_compile_options(${library}_${target} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
    target_compile_definitions(${library}_${target} PRIVATE ELSA_CPU_TARGET=${target})
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${library}_${target}>)
    set_property(TARGET ${library} APPEND PROPERTY ELSA_KERNEL_LIBRARIES ${library}_${target})
    target_compile_definitions(${library} PRIVATE ELSA_HAS_TARGET_${target}=1)
  endforeach()
endfunction()

# elsa_test_forced_targets(LIBRARY): the tests of target.h once per target, forced by ELSA_TARGET,
# and with a name that is none.
function(elsa_test_forced_targets library)
  foreach(target portable neon avx2 avx512 avx512_vpopcnt avx512_bf16 avx512_fp16 itanium)
    add_test(NAME ForcedTarget.${target} COMMAND ${library}_tests --gtest_filter=Target.*)
    set_tests_properties(ForcedTarget.${target} PROPERTIES LABELS unit
                         ENVIRONMENT ELSA_TARGET=${target})
  endforeach()
endfunction()
