# Writes tools/cli/plume_revision.h into the build folder at every build, touching it only when the revision
# has changed. Run as a script (-DSOURCE=... -DOUTPUT=...) or included for the target plume_revision.
if(CMAKE_SCRIPT_MODE_FILE)
  set(revision unknown)
  find_program(GIT git)
  if(GIT)
    execute_process(COMMAND ${GIT} describe --always --abbrev=12 --exclude=* --dirty=+
      WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE found ERROR_QUIET RESULT_VARIABLE status
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(status EQUAL 0)
      set(revision ${found})
    endif()
  endif()
  file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
    "#pragma once\ninline constexpr const char* kGitRevision = \"${revision}\";\n")
else()
  set(PLUME_GENERATED_DIR ${CMAKE_BINARY_DIR}/generated)
  add_custom_target(plume_revision
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUTPUT=${PLUME_GENERATED_DIR}/tools/cli/plume_revision.h
      -P ${CMAKE_CURRENT_LIST_FILE}
    BYPRODUCTS ${PLUME_GENERATED_DIR}/tools/cli/plume_revision.h VERBATIM)
endif()
