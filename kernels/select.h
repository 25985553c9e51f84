// kernels/select.h: choices between variants of a kernel, as pure functions that give their reason.
#pragma once

#include <cstdint>

namespace rc {

enum class StoreKind { cached, streaming };
struct StoreChoice {
  StoreKind kind;
  const char* reason;
};
// How an output is written. The bits are the same either way.
StoreChoice select_store(int64_t output_bytes, int64_t row_bytes, int64_t last_level_cache_bytes);
StoreChoice select_store(int64_t output_bytes, int64_t row_bytes);  // with this machine's cache

enum class GemmKind { own, blas };
struct GemmChoice {
  GemmKind kind;
  const char* reason;
};
// The GEMM of an up-projection. `asked` is KernelDesc::blas.
GemmChoice select_gemm(bool asked, bool blas_built_in);

// Bytes of the largest cache that this process's cores share; 32 MiB where the system does not say.
int64_t last_level_cache_bytes();
// For tests, so that small outputs take the streaming path; 0 = as detected.
void set_last_level_cache_for_test(int64_t bytes);

}  // namespace rc
