// kernels/arith/hd.h: the mark of arithmetic that the CPU and the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define RC_HD __host__ __device__ __forceinline__
#else
#define RC_HD [[gnu::always_inline]] inline
#endif
