# elsa_add_emulated_avx512(LIBRARY): the tests of the CPU engine once more, as ctest tests
# "Avx512Emulated.*", with the kernels of AVX-512 targets compiled for AVX2: the intrinsics come from
# tests/emulated/avx512.h, in plain code. So what was written for AVX-512 is checked on machines
# without it: its logic, not the compiler's instructions. Never installed.
# Three targets hold all the code there is: avx512_vpopcnt has nothing that avx512_fp16 lacks.
function(elsa_add_emulated_avx512 library)
  if(NOT TARGET ${library}_avx512_fp16 OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  set(targets avx512 avx512_bf16 avx512_fp16)
  set(dir ${CMAKE_CURRENT_SOURCE_DIR}/src/elsa/cpu)
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/kernels/*.cc)
  # Everything but the kernels and target.cc is what the real library and its tests consist of.
  set(objects $<TARGET_OBJECTS:${library}_portable> $<TARGET_OBJECTS:${library}_avx2>
              $<FILTER:$<TARGET_OBJECTS:${library}>,EXCLUDE,/target\\.cc\\.o$>
              $<TARGET_OBJECTS:${library}_tests>)
  set(definitions ELSA_EMULATED_AVX512=1 ELSA_HAS_TARGET_avx2=1)
  foreach(target IN LISTS targets)
    add_library(${library}_${target}_emulated OBJECT ${sources})
    set(extensions ${ELSA_CPU_${target}_FLAGS})
    list(FILTER extensions INCLUDE REGEX "^-mavx512")
    list(TRANSFORM extensions REPLACE "^-m" "")
    list(TRANSFORM extensions TOUPPER)
    list(TRANSFORM extensions PREPEND "ELSA_EMULATE_")
    target_include_directories(${library}_${target}_emulated
                               PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
    # The attributes that GCC warns of are alignment and aliasing; elements are copied by memcpy.
    target_compile_options(${library}_${target}_emulated
                           PRIVATE -O1 ${ELSA_CPU_avx2_FLAGS} -Wno-psabi -Wno-ignored-attributes
                                   -include ${CMAKE_CURRENT_SOURCE_DIR}/tests/emulated/avx512.h)
    target_compile_definitions(${library}_${target}_emulated
                               PRIVATE ELSA_CPU_TARGET=${target} ${extensions})
    list(APPEND objects $<TARGET_OBJECTS:${library}_${target}_emulated>)
    list(APPEND definitions ELSA_HAS_TARGET_${target}=1)
  endforeach()
  add_executable(${library}_emulated_tests ${dir}/target.cc ${objects})
  target_compile_definitions(${library}_emulated_tests PRIVATE ${definitions})
  target_link_libraries(${library}_emulated_tests PRIVATE elsa_reference GTest::gtest_main)
  gtest_discover_tests(${library}_emulated_tests TEST_PREFIX Avx512Emulated. DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS emulated ENVIRONMENT ELSA_TEST_SLOWDOWN=10)
endfunction()
