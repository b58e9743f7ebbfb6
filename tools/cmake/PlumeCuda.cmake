# Finds the CUDA toolkit and cuDNN. Nothing may link libcuda: binaries must start where no driver is.
set(PLUME_HAVE_CUDA OFF)
if(NOT PLUME_CUDA STREQUAL "OFF" AND NOT PLUME_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "sm_80, sm_90 and PTX for later ones")
    endif()
    enable_language(CUDA)
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc >= 12 speaks C++20
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    find_package(CUDAToolkit 12.0)
    find_package(CUDNN 9.0)
    find_package(NCCL QUIET)
    # A toolkit without math libraries: cuBLASLt from the Python package next to cuDNN's.
    if(CUDNN_FOUND AND NOT TARGET CUDA::cublasLt)
      get_filename_component(_cudnn_folder ${CUDNN_INCLUDE_DIR}/../.. ABSOLUTE)
      find_path(CUBLASLT_INCLUDE_DIR cublasLt.h
        HINTS ${_cudnn_folder} PATH_SUFFIXES cublas/include cu13/include cu12/include)
      find_library(CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12 NAMES_PER_DIR
        HINTS ${_cudnn_folder} PATH_SUFFIXES cublas/lib cu13/lib cu12/lib)
      mark_as_advanced(CUBLASLT_INCLUDE_DIR CUBLASLT_LIBRARY)
      if(CUBLASLT_INCLUDE_DIR AND CUBLASLT_LIBRARY)
        add_library(CUDA::cublasLt UNKNOWN IMPORTED)
        set_target_properties(CUDA::cublasLt PROPERTIES IMPORTED_LOCATION ${CUBLASLT_LIBRARY}
          INTERFACE_INCLUDE_DIRECTORIES ${CUBLASLT_INCLUDE_DIR})
      endif()
    endif()
    if(CUDAToolkit_FOUND AND CUDNN_FOUND AND TARGET CUDA::cublasLt)
      set(PLUME_HAVE_CUDA ON)
    endif()
  endif()
endif()
if(PLUME_CUDA STREQUAL "ON" AND NOT PLUME_HAVE_CUDA)
  message(FATAL_ERROR "PLUME_CUDA=ON, but no CUDA toolkit >= 12 with cuBLASLt and cuDNN >= 9 was found (hints: CUDACXX, CUDNN_ROOT)")
endif()
# The profiler's extras: hardware counters and named ranges in Nsight.
set(_cupti "not found")
set(_nvtx "not found")
if(TARGET CUDA::cupti)
  set(_cupti found)
endif()
if(CUDAToolkit_INCLUDE_DIRS)
  foreach(_folder ${CUDAToolkit_INCLUDE_DIRS})
    if(EXISTS ${_folder}/nvtx3/nvToolsExt.h)
      set(_nvtx found)
    endif()
  endforeach()
endif()
if(PLUME_HAVE_CUDA)
  message(STATUS "plume: cuda ON (toolkit ${CUDAToolkit_VERSION}, cuDNN ${CUDNN_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}, CUPTI ${_cupti}, NVTX ${_nvtx}, NCCL ${NCCL_VERSION})")
else()
  message(STATUS "plume: cuda OFF")
endif()

function(plume_cuda_target_options target)
  target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${target} PRIVATE CUDA::cublasLt CUDNN::cudnn)
  # CUPTI is opened when somebody profiles: a machine without it runs everything else.
  if(TARGET CUDA::cupti)
    target_include_directories(${target} SYSTEM PRIVATE $<TARGET_PROPERTY:CUDA::cupti,INTERFACE_INCLUDE_DIRECTORIES>)
    get_target_property(_cupti_library CUDA::cupti IMPORTED_LOCATION)
    get_filename_component(_cupti_folder ${_cupti_library} DIRECTORY)
    set_property(TARGET ${target} APPEND PROPERTY BUILD_RPATH ${_cupti_folder})
    set_property(TARGET ${target} APPEND PROPERTY INSTALL_RPATH ${_cupti_folder})
  endif()
  if(NCCL_FOUND)
    target_include_directories(${target} SYSTEM PRIVATE ${NCCL_INCLUDE_DIR})
  endif()
  # One CUDA runtime, inside the plug-in: nothing but the driver and the two libraries has to be found at run
  # time.
  set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Static INSTALL_RPATH_USE_LINK_PATH ON)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --expt-relaxed-constexpr -Werror=all-warnings>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-warn-spills,-Werror>
    # The host's side of a kernel only launches it.
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-march=x86-64-v3,-O1>
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Werror>)
endfunction()
