// src/device/device_fake.h: plays an asynchronous device with many streams and checks every use
// against stream order.
//
// For tests. Memory is real, so real bytes flow. Every operation is put on its stream and given a
// vector clock; an operation that uses memory must come after all that it depends on, through
// stream order, an event, or the host having waited. What is missing is collected as a sentence in
// the log. The host counts as one actor, whatever its threads: an order that only a lock gives is
// taken for granted.
//
// There is no default-stream rule: NULL is a stream like the others. Freed blocks are kept for a
// while (256 MiB of them), so that a late use of their addresses is seen.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/device/access_log.h"
#include "src/device/device.h"

namespace rc {

// Outlives the device, which adds what leaked when it is destroyed.
class FakeLog {
 public:
  std::vector<std::string> violations() const;
  void add(std::string sentence);

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> sentences_;
};

class FakeDevice final : public Device {
 public:
  enum class Execution {
    kEager,    // operations take effect at once; only their order is checked
    kDelayed,  // they take effect when the host waits: host code that did not wait sees old bytes
  };
  explicit FakeDevice(Execution execution = Execution::kEager);
  ~FakeDevice() override;

  static Stream stream(uintptr_t number) {
    return reinterpret_cast<Stream>(number << 8);
  }  // made up, not memory

  // ---- what tests steer and ask
  std::shared_ptr<FakeLog> log() const { return log_; }
  std::vector<std::string> violations() const { return log_->violations(); }
  // The k-th next call fails, 1 = the next; 0 = none. Codes: RC_E_MEMORY, RC_E_DEVICE, RC_E_DEVICE,
  // RC_E_MEMORY.
  void fail_allocate(uint64_t k) { set(&fail_allocate_, k); }
  void fail_record(uint64_t k) { set(&fail_record_, k); }
  void fail_copy(uint64_t k) { set(&fail_copy_, k); }
  void fail_unpark(uint64_t k) { set(&fail_unpark_, k); }
  void set_parkable(bool parkable);
  void set_capturing(Stream stream, bool capturing);
  // How many queries of an event answer "no" before it is complete; default 0, when delayed 1.
  void set_query_delay(uint32_t queries);
  // Reading what nobody wrote since allocate or unpark is a violation. Off by default: only for
  // tests in which every write is told through touch, copy or launch.
  void check_undefined(bool check);

  struct Range {
    const void* pointer;
    size_t bytes;
    bool write;
  };
  // A kernel: checked now, run in the order of the stream.
  void launch(Stream stream, const std::vector<Range>& ranges, std::function<void()> kernel);
  // Host code reads or writes device memory itself.
  void host_access(const void* pointer, size_t bytes, bool write);
  // Memory of the host that streams use (a framework's tensor): checked like a block, until
  // disowned on a stream.
  void adopt(void* pointer, size_t bytes);
  void disown(void* pointer, Stream stream);

  // ---- Device
  bool synchronous() const override { return false; }
  Status allocate(size_t bytes, Stream stream, void** out) override;
  void free(void* pointer, size_t bytes, Stream stream) override;
  void trim() override {}
  bool park(void* pointer, size_t bytes, Stream stream) override;
  Status unpark(void* pointer, size_t bytes, Stream stream) override;
  Status copy(void* destination, const void* source, size_t bytes, Stream stream) override;
  Status record(Stream stream, Event* out) override;
  Status wait(Stream stream, Event event) override;
  bool query(Event event) override;
  void release(Event event) override;
  Status synchronize(Stream stream) override;
  bool capturing(Stream stream) override;
  void touch(Stream stream, const void* pointer, size_t bytes, bool write) override;
  void poison(void*, size_t) override {}
  void unpoison(void*, size_t) override {}
  DeviceMemory memory() const override;

 private:
  struct Block {
    enum State { kLive, kParked, kFreed };
    uint64_t number;  // in messages
    char* base;
    size_t bytes;
    bool ours;
    State state;
    Stamp usable;  // allocate or unpark
    AccessLog accesses;
    std::unique_ptr<char[]> memory;
  };
  struct Work {
    std::function<void()> run;  // empty for a wait
    Event event = 0;
  };
  struct Line {  // one stream
    size_t actor;
    StreamClock clock;
    std::deque<Work> work;
    uint64_t enqueued = 0, done = 0;
    bool capturing = false;
  };
  struct Mark {  // one event
    Line* line;
    StreamClock clock;
    uint64_t position;  // complete when line->done reaches it
    uint32_t queries = 0;
    bool released = false;
  };

  void set(uint64_t* counter, uint64_t k);
  static bool strikes(uint64_t* counter);
  Line& line_of(Stream stream);
  Stamp begin(Line& line);
  void enqueue(Line& line, Work work);
  void run_until(Line& line, uint64_t position);
  Block* block_around(const void* pointer);
  Block* block_at(void* pointer, size_t bytes, const char* call, Stream stream);
  void quarantine(Block& block);
  Mark* mark_of(Event event, const char* call);
  void check(Stamp stamp, const StreamClock& clock, const void* pointer, size_t bytes, bool write,
             const char* what);
  void check_end_of_use(Block& block, Stamp stamp, const StreamClock& clock, const char* what);
  std::string name(size_t actor) const;

  const Execution execution_;
  const std::shared_ptr<FakeLog> log_ = std::make_shared<FakeLog>();
  mutable std::recursive_mutex mutex_;  // kernels run inside and may call the device
  std::unordered_map<Stream, Line> lines_;
  std::vector<Stream> streams_;  // by actor - 1
  StreamClock host_;
  std::map<char*, Block> blocks_;  // by base
  std::unordered_map<Event, Mark> marks_;
  Event last_event_ = 0;
  uint64_t last_block_ = 0;
  std::deque<char*> freed_;  // oldest first
  size_t freed_bytes_ = 0;
  uint64_t fail_allocate_ = 0, fail_record_ = 0, fail_copy_ = 0, fail_unpark_ = 0;
  bool parkable_ = true;
  bool check_undefined_ = false;
  uint32_t query_delay_;
  DeviceMemory memory_;
};

}  // namespace rc
