# elsa_embed_data(TARGET file...): compiles files into TARGET, for BuiltInData() of
# elsa/params/built_in.h under their names without folder and ending.
function(elsa_embed_data target)
  set(entries "")
  foreach(file IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    cmake_path(GET file STEM name)
    file(READ ${file} text)
    string(APPEND entries "    {\"${name}\", R\"data(${text})data\"},\n")
  endforeach()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/generated/built_in_data.cc)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
#include "elsa/params/built_in.h"

namespace elsa::internal {

const BuiltInFile kBuiltInFiles[] = {
@entries@};
const std::size_t kBuiltInFileCount = sizeof(kBuiltInFiles) / sizeof(kBuiltInFiles[0]);

}  // namespace elsa::internal
]])
  target_sources(${target} PRIVATE ${source})
endfunction()
