// src/storage/tensor.h: the only place that knows DLPack: wrap, view, export, release of rc_tensor.
#pragma once

#include "src/storage/tensor_meta.h"

namespace rc {

// Checks the version and reads shape and data. Legal only for major version 1.
Status read_tensor(const rc_tensor* tensor, const char* field, rc_tensor_spec* out);

// A tensor over foreign memory; `release(user_data)` runs when its deleter does.
Status wrap_tensor(const rc_tensor_spec& spec, void (*release)(void*), void* user_data,
                   rc_tensor** out);

// Calls the deleter, whatever the version. NULL is legal.
void release_tensor(rc_tensor* tensor);

bool tensor_is_read_only(const rc_tensor* tensor);

}  // namespace rc
