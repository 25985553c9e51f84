// kernels/cpu/kernels_bench.cc: every kernel beside memcpy of the same bytes, or beside the BLAS.
//
//   build/release/kernels/kernels_bench --benchmark_filter='norm|relu|dropout|lu|softmax'
//
// A row is a kernel, a dtype and a number of threads. Its rounds interleave, on as many threads:
// memcpy, the kernel, the kernel on 64 KiB that stay in the second-level cache, a streaming-store
// copy, memcpy again. Each copy moves as many bytes (read + written) as the kernel must: its inputs
// once and its outputs once, 288 to 384 MiB. Printed are medians over the rounds:
//   GB_s, memcpy_GB_s, cache_GB_s   bytes that must move, per second
//   of_memcpy, of_stream, of_cache  the kernel's rate over the others', by round
//   of_limit                        over memcpy for kernels that memory bounds; over the lower of
//                                   memcpy and the rate in cache for those with more arithmetic
//   spread, a_a                     interquartile range of of_limit; memcpy against itself
// The label says whether of_limit reaches 0.9. One thread is timed by its processor time, which
// leaves out what the scheduler of a shared machine gave to others; several by the wall clock.
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/arith/bf16.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace rc {
namespace {

// Wall time, or the calling thread's processor time where it works alone: on a shared machine that
// leaves out what the scheduler gave to others.
double now(bool alone) {
  timespec t;
  clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
bool g_alone = false;
double seconds_of(const std::function<void()>& f) {
  const double start = now(g_alone);
  f();
  return now(g_alone) - start;
}

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(q * static_cast<double>(v.size() - 1) + 0.5)];
}

// Page-aligned, touched memory; two of these stand for all inputs and outputs of the bench.
struct Buffer {
  explicit Buffer(size_t n) : bytes(n), data(static_cast<char*>(std::aligned_alloc(4096, n))) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  size_t bytes;
  char* data;
};

constexpr size_t kBufferBytes = size_t{192} << 20;

struct Memory {
  Buffer in{kBufferBytes}, out{kBufferBytes};
  DType filled = DType::i64;
  void fill(DType t) {
    if (filled == t) return;
    filled = t;
    for (size_t i = 0; i < kBufferBytes / static_cast<size_t>(dtype_bytes(t)); ++i) {
      const float v = static_cast<float>(i * 2654435761u % 8191) / 1024 - 4;
      if (t == DType::f32) {
        reinterpret_cast<float*>(in.data)[i] = v;
      } else {
        reinterpret_cast<uint16_t*>(in.data)[i] = f32_to_bf16(v);
      }
    }
    std::memset(out.data, 1, kBufferBytes);
  }
};
Memory& memory() {
  static Memory m;
  return m;
}

void parallel_copy(ThreadPool& pool, char* to, const char* from, size_t bytes, bool stream) {
  const size_t piece = (bytes / static_cast<size_t>(pool.width()) + 63) / 64 * 64;
  pool.run(pool.width(), [&](int64_t i) {
    const size_t first = std::min(bytes, static_cast<size_t>(i) * piece);
    const size_t n = std::min(piece, bytes - first);
#if defined(__x86_64__)
    if (stream) {
      const __m128i* s = reinterpret_cast<const __m128i*>(from + first);
      __m128i* d = reinterpret_cast<__m128i*>(to + first);
      for (size_t k = 0; k + 1 <= n / 16; ++k) _mm_stream_si128(d + k, _mm_loadu_si128(s + k));
      _mm_sfence();
      return;
    }
#endif
    std::memcpy(to + first, from + first, n);
  });
}

enum class Bound { memory, arithmetic };

struct Op {
  const char* name;
  KernelDesc desc;
  int64_t cols;
  int in_parts;  // inputs per output element: 2 for gated kinds
  Bound bound;
};

KernelDesc kind(KernelKind k, bool tanh = false, float p = 0) {
  KernelDesc d;
  d.kind = k;
  d.tanh_gelu = tanh;
  d.dropout = p;
  return d;
}

// Dropout is bound by the 20 widening multiplications of a Philox counter, eight elements' worth.
const Op kOps[] = {
    {"layernorm", kind(KernelKind::layernorm), 4096, 1, Bound::memory},
    {"rmsnorm", kind(KernelKind::rmsnorm), 4096, 1, Bound::memory},
    {"squared_relu", kind(KernelKind::squared_relu), 14336, 1, Bound::memory},
    {"dropout", kind(KernelKind::dropout, false, 0.1f), 4096, 1, Bound::arithmetic},
    {"swiglu", kind(KernelKind::swiglu), 14336, 2, Bound::arithmetic},
    {"gelu_erf", kind(KernelKind::gelu), 14336, 1, Bound::arithmetic},
    {"gelu_tanh", kind(KernelKind::gelu, true), 14336, 1, Bound::arithmetic},
    {"geglu_erf", kind(KernelKind::geglu), 14336, 2, Bound::arithmetic},
    {"geglu_tanh", kind(KernelKind::geglu, true), 14336, 2, Bound::arithmetic},
    {"softmax", kind(KernelKind::softmax), 4096, 1, Bound::arithmetic},
};

Tensor matrix(void* data, DType t, int64_t rows, int64_t cols) {
  Tensor m;
  m.data = data;
  m.dtype = t;
  m.ndim = 2;
  m.shape[0] = rows;
  m.shape[1] = cols;
  m.stride[0] = cols;
  m.stride[1] = 1;
  return m;
}

// One kernel on `input_bytes` of input, whole rows, `place` bytes behind the start of the memory.
class Launch {
 public:
  Launch(const Op& op, DType t, size_t input_bytes, size_t place) : op_(op) {
    memory().fill(t);
    const int64_t unit = dtype_bytes(t), row = op.cols * op.in_parts;
    const int64_t rows = std::max<int64_t>(1, static_cast<int64_t>(input_bytes) / (row * unit));
    inputs_.push_back(matrix(memory().in.data + place, t, rows, row));
    outputs_.push_back(matrix(memory().out.data + place, t, rows, op.cols));
    gamma_.assign(static_cast<size_t>(op.cols), 1.0f);
    Tensor g = matrix(gamma_.data(), DType::f32, 1, op.cols);
    g.ndim = 1;
    g.shape[0] = op.cols;
    g.stride[0] = 1;
    const bool layer = op.desc.kind == KernelKind::layernorm;
    params_.assign(layer ? 2 : op.desc.kind == KernelKind::rmsnorm ? 1 : 0, g);
    bytes_ = static_cast<size_t>(rows * (row + op.cols) * unit);
  }
  void operator()(Parallel& parallel) const {
    if (!run_kernel(op_.desc, {inputs_, params_, outputs_, {}}, {1, 2}, parallel).ok()) {
      std::abort();
    }
  }
  size_t bytes() const { return bytes_; }

 private:
  const Op& op_;
  std::vector<Tensor> inputs_, params_, outputs_;
  std::vector<float> gamma_;
  size_t bytes_ = 0;
};

// The same kernel in the caches of every thread, each with its own rows.
class CachedLaunches {
 public:
  CachedLaunches(const Op& op, DType t, int threads) {
    for (int i = 0; i < threads; ++i) launches_.emplace_back(op, t, 64 << 10, kPlace * i);
  }
  // Seconds that `bytes` would take at this rate.
  double seconds_for(size_t bytes, ThreadPool& pool) const {
    const double spent = seconds_of([&] {
      pool.run(pool.width(), [&](int64_t i) {
        SerialParallel alone;
        for (int k = 0; k < kRepeats; ++k) launches_[static_cast<size_t>(i)](alone);
      });
    });
    const size_t moved = launches_[0].bytes() * kRepeats * launches_.size();
    return spent * static_cast<double>(bytes) / static_cast<double>(moved);
  }

 private:
  static constexpr size_t kPlace = 8 << 20;
  static constexpr int kRepeats = 100;  // half a millisecond at least, against 50 us for a wake-up
  std::vector<Launch> launches_;
};

void bench_op(benchmark::State& state, const Op& op, DType t) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  g_alone = pool.width() == 1;
  const Launch launch(op, t, kBufferBytes, 0);
  const CachedLaunches cached(op, t, pool.width());
  const size_t bytes = launch.bytes();
  const auto copy = [&](bool stream) {
    return seconds_of(
        [&] { parallel_copy(pool, memory().out.data, memory().in.data, bytes / 2, stream); });
  };
  launch(pool);
  copy(false);
  std::vector<double> kernel, memcpy_, cache, of_memcpy, of_stream, of_cache, of_limit, a_a;
  for (auto _ : state) {
    const double before = copy(false), k = seconds_of([&] { launch(pool); });
    const double c = cached.seconds_for(bytes, pool), s = copy(true), after = copy(false);
    const double m = (before + after) / 2;
    kernel.push_back(k);
    memcpy_.push_back(m);
    cache.push_back(c);
    of_memcpy.push_back(m / k);
    of_stream.push_back(s / k);
    of_cache.push_back(c / k);
    of_limit.push_back((op.bound == Bound::memory ? m : std::max(m, c)) / k);
    a_a.push_back(before / after);
    state.SetIterationTime(k);
  }
  const auto rate = [&](const std::vector<double>& seconds) {
    return static_cast<double>(bytes) / quantile(seconds, 0.5) / 1e9;
  };
  const double reached = quantile(of_limit, 0.5);
  state.counters["GB_s"] = rate(kernel);
  state.counters["memcpy_GB_s"] = rate(memcpy_);
  state.counters["cache_GB_s"] = rate(cache);
  state.counters["of_memcpy"] = quantile(of_memcpy, 0.5);
  state.counters["of_stream"] = quantile(of_stream, 0.5);
  state.counters["of_cache"] = quantile(of_cache, 0.5);
  state.counters["of_limit"] = reached;
  state.counters["spread"] = quantile(of_limit, 0.75) - quantile(of_limit, 0.25);
  state.counters["a_a"] = quantile(a_a, 0.5);
  const std::string limit = op.bound == Bound::memory ? "memory" : "memory or arithmetic";
  state.SetLabel(limit + (reached >= 0.9 ? ": met" : ": missed"));
}

// The own GEMM beside one cblas_sgemm call on one thread; no BLAS, no ratio.
void bench_gemm(benchmark::State& state, DType t) {
  const int64_t M = 768, N = 1024, K = 1024;
  ThreadPool pool(static_cast<int>(state.range(0)));
  g_alone = pool.width() == 1;
  memory().fill(t);
  std::vector<Tensor> in{matrix(memory().in.data, t, M, K)},
      out{matrix(memory().out.data, t, M, N)};
  std::vector<Tensor> w{matrix(memory().in.data + (size_t{32} << 20), t, N, K)};
  const auto own = [&] {
    return seconds_of([&] {
      if (!run_kernel(kind(KernelKind::up_projection), {in, w, out, {}}, {}, pool).ok())
        std::abort();
    });
  };
  std::vector<float> a(M * K, 0.5f), b(N * K, 0.25f), c(M * N);
  own();
  std::vector<double> ratio, rate;
  for (auto _ : state) {
    const double k = own();
    if (cpu::have_blas()) {
      const cpu::BlasOneThread pin;
      const double blas = seconds_of(
          [&] { cpu::blas_sgemm(M, N, K, a.data(), K, b.data(), K, c.data(), N, false); });
      ratio.push_back(blas / k);
    }
    rate.push_back(2e-9 * static_cast<double>(M * N * K) / k);
    state.SetIterationTime(k);
  }
  if (!ratio.empty()) state.counters["of_blas_1_thread"] = quantile(ratio, 0.5);
  state.counters["GFLOP_s"] = quantile(rate, 0.5);
}

void bench_attention(benchmark::State& state, KernelKind k, DType t, bool causal) {
  const int64_t H = 8, S = 1024, D = 128;
  ThreadPool pool(static_cast<int>(state.range(0)));
  g_alone = pool.width() == 1;
  memory().fill(t);
  const auto heads = [&](char* at) {
    Tensor x = matrix(at, t, S, D);
    x.ndim = 4;
    const int64_t shape[] = {1, H, S, D}, stride[] = {H * S * D, S * D, D, 1};
    std::copy(shape, shape + 4, x.shape);
    std::copy(stride, stride + 4, x.stride);
    return x;
  };
  std::vector<Tensor> in, out{heads(memory().out.data)};
  for (size_t i = 0; i < 3; ++i) in.push_back(heads(memory().in.data + (i << 24)));
  KernelDesc d = kind(k);
  d.causal = causal;
  std::vector<double> rate;
  for (auto _ : state) {
    const double s = seconds_of([&] {
      if (!run_kernel(d, {in, {}, out, {}}, {}, pool).ok()) std::abort();
    });
    rate.push_back(4e-9 * static_cast<double>(H * S * S * D) * (causal ? 0.5 : 1) / s);
    state.SetIterationTime(s);
  }
  state.counters["GFLOP_s"] = quantile(rate, 0.5);
}

void register_all() {
  const auto add = [](const std::string& name, int rounds, auto f) {
    auto* b = benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(rounds);
    b->Unit(benchmark::kMillisecond)->Arg(1)->Arg(2);
  };
  for (DType t : {DType::f32, DType::bf16}) {
    const std::string suffix = std::string("/") + dtype_name(t);
    for (const Op& op : kOps) {
      add(op.name + suffix, 9, [&op, t](benchmark::State& s) { bench_op(s, op, t); });
    }
    add("up_projection" + suffix, 9, [t](benchmark::State& s) { bench_gemm(s, t); });
    for (bool causal : {false, true}) {
      const std::string tail = suffix + (causal ? "/causal" : "");
      add("core_attention" + tail, 3,
          [=](benchmark::State& s) { bench_attention(s, KernelKind::core_attention, t, causal); });
      add("fused_attention" + tail, 3,
          [=](benchmark::State& s) { bench_attention(s, KernelKind::fused_attention, t, causal); });
    }
  }
}

}  // namespace
}  // namespace rc

int main(int argc, char** argv) {
  benchmark::AddCustomContext("simd", rc::simd_level_name(rc::simd_level()));
  benchmark::Initialize(&argc, argv);
  rc::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
