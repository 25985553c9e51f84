// kernels/kernel_test.h: host tensors with strides, odd addresses and guards, for kernel tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "kernels/arith/bf16.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/kernels.h"

namespace rc {

// A tensor in its own memory. `row_gap` elements lie between the rows, `shift` elements before the
// first; both are filled with a pattern that intact() checks.
class HostTensor {
 public:
  HostTensor(DType dtype, std::initializer_list<int64_t> shape, int64_t row_gap = 0,
             int64_t shift = 0) {
    view_.dtype = dtype;
    for (int64_t size : shape) view_.shape[view_.ndim++] = size;
    int64_t stride = 1;
    for (int i = view_.ndim - 1; i >= 0; --i) {
      view_.stride[i] = stride;
      stride = stride * view_.shape[i] + (i == view_.ndim - 1 ? row_gap : 0);
    }
    const int64_t unit = dtype_bytes(dtype);
    memory_.assign(static_cast<size_t>((stride + shift + 64) * unit + 64), 0xA5);
    const uintptr_t base = (reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64;
    view_.data = reinterpret_cast<unsigned char*>(base) + shift * unit;
  }
  HostTensor(const HostTensor&) = delete;
  HostTensor(HostTensor&&) = default;

  const Tensor& view() const { return view_; }
  operator const Tensor&() const { return view_; }
  int64_t size() const { return view_.elements(); }

  float get(int64_t i) const {
    const void* p = at(i);
    return view_.dtype == DType::f32 ? *static_cast<const float*>(p)
                                     : bf16_to_f32(*static_cast<const uint16_t*>(p));
  }
  void set(int64_t i, float v) {
    if (view_.dtype == DType::f32) {
      *static_cast<float*>(at(i)) = v;
    } else {
      *static_cast<uint16_t*>(at(i)) = f32_to_bf16(v);
    }
  }
  HostTensor& fill(unsigned seed, float lo = -3, float hi = 3) {
    std::minstd_rand rng(seed);
    std::uniform_real_distribution<float> u(lo, hi);
    for (int64_t i = 0; i < size(); ++i) set(i, u(rng));
    return *this;
  }
  // The elements in logical order, for references that read them many times.
  std::vector<double> values() const {
    std::vector<double> out(static_cast<size_t>(size()));
    for (int64_t i = 0; i < size(); ++i) out[static_cast<size_t>(i)] = get(i);
    return out;
  }
  // The elements' bytes in logical order.
  std::string bytes() const {
    std::string s;
    for (int64_t i = 0; i < size(); i += view_.cols())
      s.append(static_cast<const char*>(at(i)), row_bytes());
    return s;
  }
  // Nothing outside the elements was written.
  bool intact() const {
    std::vector<unsigned char> copy = memory_;
    for (int64_t i = 0; i < size(); i += view_.cols())
      std::memset(copy.data() + (static_cast<unsigned char*>(at(i)) - memory_.data()), 0xA5,
                  row_bytes());
    return copy == std::vector<unsigned char>(copy.size(), 0xA5);
  }

 private:
  void* at(int64_t i) const {
    const int64_t cols = view_.cols();
    const int64_t offset = view_.row_offset(i / cols) + i % cols;
    return static_cast<unsigned char*>(view_.data) + offset * dtype_bytes(view_.dtype);
  }
  size_t row_bytes() const { return static_cast<size_t>(view_.cols() * dtype_bytes(view_.dtype)); }
  Tensor view_;
  std::vector<unsigned char> memory_;
};

inline Status run(const KernelDesc& desc, std::vector<Tensor> inputs, std::vector<Tensor> params,
                  std::vector<Tensor> outputs, std::vector<Tensor> saved, PhiloxRecord philox,
                  Parallel& parallel) {
  return run_kernel(desc, {inputs, params, outputs, saved}, philox, parallel);
}

// |got - want| <= absolute + relative |want|, with bfloat16's rounding of the result on top.
inline bool close(DType dtype, double got, double want, double absolute, double relative) {
  if (dtype == DType::bf16) relative += 1.0 / 256;  // half a unit in the last of 8 bits
  return std::fabs(got - want) <= absolute + relative * std::fabs(want);
}

// Runs a test once per instruction set that this machine has.
template <class F>
void for_each_level(F test) {
  for (int level = 0; level <= static_cast<int>(SimdLevel::avx512); ++level) {
    const SimdLevel wanted = static_cast<SimdLevel>(level);
    if (set_simd_level_for_test(wanted) != wanted) break;
    SCOPED_TRACE(simd_level_name(wanted));
    test();
  }
  set_simd_level_for_test(SimdLevel::avx512);
}

inline const DType kDTypes[] = {DType::f32, DType::bf16};

}  // namespace rc
