# Functions by which every directory declares its library, its tests and its benchmarks.

# Options that every target of the project gets: warnings, sanitizers, and nothing from directory scope.
add_library(quadrille_options INTERFACE)
target_compile_options(quadrille_options INTERFACE
  -Wall -Wextra -Wno-unused-parameter -Werror=return-type -Werror=switch -fno-semantic-interposition
  -ffp-contract=off) # a fused multiply-add is written where the machine has one, never chosen by the compiler
target_link_options(quadrille_options INTERFACE -fuse-ld=lld)
target_include_directories(quadrille_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/src)
if(QUADRILLE_SANITIZE)
  # vptr checks need type information for LLVM's classes, which are not instrumented.
  target_compile_options(quadrille_options INTERFACE
    -fsanitize=${QUADRILLE_SANITIZE} -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(quadrille_options INTERFACE -fsanitize=${QUADRILLE_SANITIZE})
  target_sources(quadrille_options INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${CMAKE_SOURCE_DIR}/cmake/SanitizerOptions.cpp>)
  if(QUADRILLE_FUZZ)
    target_compile_options(quadrille_options INTERFACE -fsanitize=fuzzer-no-link)
  endif()
endif()

# LLVM's support library (errors, JSON, YAML, files); one shared library, no MLIR headers.
add_library(quadrille_llvm INTERFACE)
target_include_directories(quadrille_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS})
target_compile_definitions(quadrille_llvm INTERFACE ${LLVM_DEFINITIONS})
target_link_libraries(quadrille_llvm INTERFACE LLVM)

# MLIR itself: only graph/ and the tools over it link this.
add_library(quadrille_mlir INTERFACE)
target_include_directories(quadrille_mlir SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS})
target_link_libraries(quadrille_mlir INTERFACE quadrille_llvm MLIR)

# quadrille_add_library(NAME SOURCES a.cpp ... LINK lib ...): static library quadrille_NAME.
function(quadrille_add_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(quadrille_${name} STATIC ${arg_SOURCES})
  target_link_libraries(quadrille_${name} PUBLIC quadrille_options ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
endfunction()

# quadrille_add_test(NAME SOURCES a_test.cpp ... LINK lib ...): GoogleTest program NAME_test, one ctest entry.
function(quadrille_add_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name}_test ${arg_SOURCES})
  target_link_libraries(${name}_test PRIVATE quadrille_options ${arg_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE QUADRILLE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test-bin)
  add_test(NAME ${name} COMMAND ${name}_test)
endfunction()

# quadrille_add_benchmark(NAME SOURCES a_bench.cpp ... LINK lib ...): Google Benchmark program NAME_bench.
function(quadrille_add_benchmark name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name}_bench ${arg_SOURCES})
  target_link_libraries(${name}_bench PRIVATE quadrille_options ${arg_LINK} benchmark::benchmark)
  set_target_properties(${name}_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench-bin)
endfunction()

# quadrille_add_fuzzer(NAME SOURCES a_fuzz.cpp ... LINK lib ...): libFuzzer program NAME_fuzz (fuzz preset only).
function(quadrille_add_fuzzer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name}_fuzz ${arg_SOURCES})
  target_link_libraries(${name}_fuzz PRIVATE quadrille_options ${arg_LINK})
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()

# quadrille_add_flatbuffer(NAME Schema.fbs): generates Schema_generated.h (with the object API) below build/src.
function(quadrille_add_flatbuffer name schema)
  get_filename_component(base ${schema} NAME_WE)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/${schema})
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${base}_generated.h)
  add_custom_command(OUTPUT ${output}
    COMMAND flatc --cpp --scoped-enums --gen-object-api --cpp-std c++17 -I ${CMAKE_SOURCE_DIR}/src
            -o ${CMAKE_CURRENT_BINARY_DIR} ${source}
    DEPENDS ${source} VERBATIM)
  add_custom_target(quadrille_${name}_flatbuffer DEPENDS ${output})
  add_library(quadrille_${name}_schema INTERFACE)
  add_dependencies(quadrille_${name}_schema quadrille_${name}_flatbuffer)
  target_include_directories(quadrille_${name}_schema INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
endfunction()
