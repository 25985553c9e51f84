// src/region/kernel_module.h: a module that the core runs itself; forward and replay are one
// function.
#pragma once

#include <vector>

#include "kernels/kernels.h"
#include "src/region/module.h"

namespace rc {

class Locked;

class KernelModule {
 public:
  // Checks the descriptor, writes the kernel's slots; borrows the parameters.
  static Status create(const rc_kernel_desc& desc, std::vector<SlotDef>* slots,
                       std::unique_ptr<KernelModule>* out);
  ~KernelModule();

  KernelDesc desc;
  uint32_t n_inputs = 0, n_outputs = 0, n_saved = 0;  // slots in this order
  std::vector<Tensor> params;
  std::vector<rc_tensor*> owned;  // filled in by the registration, once nothing can fail any more
};

// Forward: every output and saved slot; in a replay the wanted ones.
Status run_kernel_module(Locked& lock, Region* r, Stream stream);

}  // namespace rc
