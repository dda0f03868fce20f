# Run by `cmake --install`: copies elsa/elsa.h, elsa/elsa_c.h and every header of ours that they
# include, from elsa_source to elsa_destination.
cmake_policy(SET CMP0057 NEW)  # IN_LIST: installation scripts have no policies set
set(queue elsa/elsa.h elsa/elsa_c.h)
set(found ${queue})
while(queue)
  list(POP_FRONT queue header)
  cmake_path(GET header PARENT_PATH folder)
  file(INSTALL DESTINATION "${elsa_destination}/${folder}" TYPE FILE FILES "${elsa_source}/${header}")
  file(STRINGS "${elsa_source}/${header}" includes REGEX "^#include \"elsa/")
  foreach(line IN LISTS includes)
    string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" included "${line}")
    if(NOT included IN_LIST found)
      list(APPEND found ${included})
      list(APPEND queue ${included})
    endif()
  endforeach()
endwhile()
