# What a program that uses ELSA links: the shared library libelsa and the archive libelsa.a, both of
# all layers, and their installation with headers, CMake package and pkg-config file. In a wheel the
# shared library goes into the package (docs/guide/cpp.md); it can be moved, as the rest can.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# elsa_add_library(LAYERS_FILE): the targets elsa_shared (elsa::elsa) and elsa_static
# (elsa::elsa_static) from the layers of the file.
function(elsa_add_library layers_file)
  file(STRINGS ${layers_file} layers REGEX "^[a-z]+:")
  list(TRANSFORM layers REPLACE ":.*" "")
  set(objects "")
  foreach(layer IN LISTS layers)
    list(APPEND objects $<TARGET_OBJECTS:elsa_${layer}>)
  endforeach()
  get_target_property(kernels elsa_cpu ELSA_KERNEL_LIBRARIES)
  foreach(library IN LISTS kernels)
    list(APPEND objects $<TARGET_OBJECTS:${library}>)
  endforeach()

  file(STRINGS ${PROJECT_SOURCE_DIR}/src/elsa/elsa_c.h abi REGEX "^#define ELSA_ABI_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+$" abi "${abi}")
  set(symbols ${PROJECT_SOURCE_DIR}/cmake/libelsa.map)
  add_library(elsa_shared SHARED ${objects})
  set_target_properties(elsa_shared PROPERTIES EXPORT_NAME elsa SOVERSION ${abi} LINK_DEPENDS ${symbols})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options(elsa_shared PRIVATE LINKER:--version-script=${symbols})
  endif()
  add_library(elsa_static STATIC ${objects})
  add_library(elsa::elsa ALIAS elsa_shared)
  add_library(elsa::elsa_static ALIAS elsa_static)
  foreach(target elsa_shared elsa_static)
    set_target_properties(${target} PROPERTIES OUTPUT_NAME elsa LINKER_LANGUAGE CXX)
    target_link_libraries(${target} PUBLIC Threads::Threads)
    target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
  endforeach()
endfunction()

# elsa_install_library(PREFIX targets...): installs targets of elsa_add_library, headers, and the
# CMake package below PREFIX ("" for the prefix itself).
function(elsa_install_library prefix)
  set(lib ${prefix}${CMAKE_INSTALL_LIBDIR})
  set(package ${lib}/cmake/elsa)
  install(TARGETS ${ARGN} EXPORT elsaTargets
          LIBRARY DESTINATION ${lib} NAMELINK_SKIP ARCHIVE DESTINATION ${lib}
          INCLUDES DESTINATION ${prefix}${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT elsaTargets NAMESPACE elsa:: DESTINATION ${package})
  set(generated ${PROJECT_BINARY_DIR}/generated/package)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/elsaConfig.cmake.in
                                ${generated}/elsaConfig.cmake INSTALL_DESTINATION ${package}
                                NO_SET_AND_CHECK_MACRO)
  # Before 1.0 every minor version may change the C++ interface.
  write_basic_package_version_file(${generated}/elsaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${generated}/elsaConfig.cmake ${generated}/elsaConfigVersion.cmake
          DESTINATION ${package})
  # Found when installing, so that an edited #include needs no new configuration.
  install(CODE "
    set(elsa_source ${PROJECT_SOURCE_DIR}/src)
    set(elsa_destination \"\${CMAKE_INSTALL_PREFIX}/${prefix}${CMAKE_INSTALL_INCLUDEDIR}\")
    cmake_policy(PUSH)
    cmake_policy(VERSION 3.25)
    include(${PROJECT_SOURCE_DIR}/cmake/install_headers.cmake)
    cmake_policy(POP)")
endfunction()

# The link libelsa.so, which programs that are linked by -lelsa want, and pkg-config's file.
function(elsa_install_development_files)
  install(TARGETS elsa_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_ONLY)
  cmake_path(SET from_pc NORMALIZE ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  file(RELATIVE_PATH ELSA_PREFIX_FROM_PC /${from_pc} /)
  set(generated ${PROJECT_BINARY_DIR}/generated/package)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/elsa.pc.in ${generated}/elsa.pc @ONLY)
  install(FILES ${generated}/elsa.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
