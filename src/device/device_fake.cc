// src/device/device_fake.cc: streams as queues, order as vector clocks, violations as sentences.
#include "src/device/device_fake.h"

#include <algorithm>
#include <cstring>

namespace rc {
namespace {

constexpr size_t kQuarantine = size_t{256} << 20;
constexpr size_t kGap = kBlockAlignment;  // between blocks, so that a byte past the end is nobody's
// Content that is easy to recognise in a failed comparison.
constexpr int kUndefined = 0xa5, kFreedByte = 0xdd, kParkedByte = 0xdb;

unsigned long long number(uint64_t value) {
  return value;
}

}  // namespace

std::vector<std::string> FakeLog::violations() const {
  std::lock_guard lock(mutex_);
  return sentences_;
}

void FakeLog::add(std::string sentence) {
  std::lock_guard lock(mutex_);
  sentences_.push_back(std::move(sentence));
}

FakeDevice::FakeDevice(Execution execution)
    : execution_(execution), query_delay_(execution == Execution::kDelayed ? 1 : 0) {}

FakeDevice::~FakeDevice() {
  for (auto& [stream, line] : lines_) run_until(line, line.enqueued);
  for (const auto& [base, block] : blocks_) {
    if (block.ours && block.state != Block::kFreed) {
      log_->add(
          format("block %llu of %zu bytes was never freed", number(block.number), block.bytes));
    }
  }
  for (const auto& [event, mark] : marks_) {
    if (!mark.released) {
      log_->add(format("event %llu of %s was never released", number(event),
                       name(mark.line->actor).c_str()));
    }
  }
}

// ---- steering

void FakeDevice::set(uint64_t* counter, uint64_t k) {
  std::lock_guard lock(mutex_);
  *counter = k;
}

bool FakeDevice::strikes(uint64_t* counter) {
  return *counter > 0 && --*counter == 0;
}

void FakeDevice::set_parkable(bool parkable) {
  std::lock_guard lock(mutex_);
  parkable_ = parkable;
}

void FakeDevice::set_capturing(Stream stream, bool capturing) {
  std::lock_guard lock(mutex_);
  line_of(stream).capturing = capturing;
}

void FakeDevice::set_query_delay(uint32_t queries) {
  std::lock_guard lock(mutex_);
  query_delay_ = queries;
}

void FakeDevice::check_undefined(bool check) {
  std::lock_guard lock(mutex_);
  check_undefined_ = check;
}

// ---- streams

std::string FakeDevice::name(size_t actor) const {
  if (actor == 0) return "the host";
  return format("stream %#llx", number(reinterpret_cast<uintptr_t>(streams_[actor - 1])));
}

FakeDevice::Line& FakeDevice::line_of(Stream stream) {
  const auto [found, added] = lines_.try_emplace(stream);
  if (added) {
    streams_.push_back(stream);
    found->second.actor = streams_.size();
  }
  return found->second;
}

// A new operation of the stream. It comes after what the host knew when it enqueued it.
Stamp FakeDevice::begin(Line& line) {
  line.clock.join(host_);
  return line.clock.advance(line.actor);
}

void FakeDevice::enqueue(Line& line, Work work) {
  line.work.push_back(std::move(work));
  ++line.enqueued;
  if (execution_ == Execution::kEager) run_until(line, line.enqueued);
}

void FakeDevice::run_until(Line& line, uint64_t position) {
  while (line.done < position && !line.work.empty()) {
    const Work work = std::move(line.work.front());
    line.work.pop_front();
    if (work.event) {
      const Mark& mark = marks_.at(work.event);
      run_until(*mark.line, mark.position);
    } else {
      work.run();
    }
    ++line.done;
  }
}

// ---- order

FakeDevice::Block* FakeDevice::block_around(const void* pointer) {
  char* address = static_cast<char*>(const_cast<void*>(pointer));
  auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return nullptr;
  Block& block = std::prev(after)->second;
  return address < block.base + block.bytes ? &block : nullptr;
}

void FakeDevice::check(Stamp stamp, const StreamClock& clock, const void* pointer, size_t bytes,
                       bool write, const char* what) {
  if (bytes == 0) return;
  Block* block = block_around(pointer);
  if (!block) return;  // not ours: the host's memory, which is not checked unless adopted
  const size_t first = static_cast<size_t>(static_cast<const char*>(pointer) - block->base);
  const size_t end = std::min(first + bytes, block->bytes);
  const auto complain = [&](const std::string& reason) {
    log_->add(format("%s of block %llu [%zu, %zu) on %s %s", what, number(block->number), first,
                     first + bytes, name(stamp.actor).c_str(), reason.c_str()));
  };
  if (first + bytes > block->bytes) complain(format("goes past its end at %zu", block->bytes));
  if (block->state == Block::kFreed) return complain("comes after its free");
  if (block->state == Block::kParked) return complain("finds it parked");
  if (!clock.knows(block->usable)) {
    complain(
        format("is not ordered after it became usable on %s", name(block->usable.actor).c_str()));
  }
  if (!write && check_undefined_ && !block->accesses.defined(first, end))
    complain("finds undefined content");
  if (const auto conflict = block->accesses.access(first, end, write, stamp, clock)) {
    complain(format("races with a %s of [%zu, %zu) on %s",
                    conflict->earlier_was_write ? "write" : "read", conflict->begin, conflict->end,
                    name(conflict->earlier.actor).c_str()));
  }
}

// Free, park: the operation must come after every use so far.
void FakeDevice::check_end_of_use(Block& block, Stamp stamp, const StreamClock& clock,
                                  const char* what) {
  const auto complain = [&](const char* did, size_t actor) {
    log_->add(format("%s of block %llu on %s is not ordered after %s on %s", what,
                     number(block.number), name(stamp.actor).c_str(), did, name(actor).c_str()));
  };
  if (!clock.knows(block.usable)) complain("it became usable", block.usable.actor);
  if (const auto conflict = block.accesses.access(0, block.bytes, true, stamp, clock)) {
    complain(conflict->earlier_was_write ? "a write" : "a read", conflict->earlier.actor);
  }
  block.accesses.undefine(0, block.bytes);
}

void FakeDevice::launch(Stream stream, const std::vector<Range>& ranges,
                        std::function<void()> kernel) {
  std::lock_guard lock(mutex_);
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  for (const Range& range : ranges) {
    check(stamp, line.clock, range.pointer, range.bytes, range.write,
          range.write ? "write" : "read");
  }
  enqueue(line, Work{std::move(kernel)});
}

void FakeDevice::touch(Stream stream, const void* pointer, size_t bytes, bool write) {
  std::lock_guard lock(mutex_);
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  check(stamp, line.clock, pointer, bytes, write, write ? "write" : "read");
}

void FakeDevice::host_access(const void* pointer, size_t bytes, bool write) {
  std::lock_guard lock(mutex_);
  const Stamp stamp = host_.advance(0);
  check(stamp, host_, pointer, bytes, write, write ? "write" : "read");
}

// ---- memory

Status FakeDevice::allocate(size_t bytes, Stream stream, void** out) {
  std::lock_guard lock(mutex_);
  *out = nullptr;
  if (bytes == 0) {
    log_->add("allocate of 0 bytes");
    return Status(RC_E_MEMORY, "", "a block of 0 bytes cannot be had");
  }
  if (strikes(&fail_allocate_))
    return Status(RC_E_MEMORY, "", format("%zu bytes refused by the test", bytes));
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  std::unique_ptr<char[]> memory(new char[bytes + kBlockAlignment + kGap]);
  const uintptr_t raw = reinterpret_cast<uintptr_t>(memory.get());
  char* base = memory.get() + (kBlockAlignment - raw % kBlockAlignment) % kBlockAlignment;
  blocks_.insert_or_assign(base, Block{++last_block_, base, bytes, true, Block::kLive, stamp,
                                       AccessLog(bytes), std::move(memory)});
  memory_.reserved_bytes += bytes;
  ++memory_.allocations;
  enqueue(line, Work{[base, bytes] { std::memset(base, kUndefined, bytes); }});
  *out = base;
  return ok_status();
}

// The block that begins at `pointer` and can still be used; nullptr with a complaint where the
// caller is wrong.
FakeDevice::Block* FakeDevice::block_at(void* pointer, size_t bytes, const char* call,
                                        Stream stream) {
  const auto found = blocks_.find(static_cast<char*>(pointer));
  const std::string where = name(line_of(stream).actor);
  if (found == blocks_.end() || !found->second.ours) {
    log_->add(format("%s of an unknown pointer on %s", call, where.c_str()));
    return nullptr;
  }
  Block& block = found->second;
  if (block.state == Block::kFreed) {
    log_->add(format("%s of block %llu on %s comes after its free", call, number(block.number),
                     where.c_str()));
    return nullptr;
  }
  if (block.bytes != bytes) {
    log_->add(format("%s of block %llu on %s says %zu bytes, allocate said %zu", call,
                     number(block.number), where.c_str(), bytes, block.bytes));
  }
  return &block;
}

void FakeDevice::free(void* pointer, size_t bytes, Stream stream) {
  if (!pointer) return;
  std::lock_guard lock(mutex_);
  Block* block = block_at(pointer, bytes, "free", stream);
  if (!block) return;
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  check_end_of_use(*block, stamp, line.clock, "free");
  (block->state == Block::kParked ? memory_.parked_bytes : memory_.reserved_bytes) -= block->bytes;
  block->state = Block::kFreed;
  enqueue(line,
          Work{[base = block->base, size = block->bytes] { std::memset(base, kFreedByte, size); }});
  quarantine(*block);
}

void FakeDevice::quarantine(Block& block) {
  freed_.push_back(block.base);
  freed_bytes_ += block.bytes;
  if (freed_bytes_ <= kQuarantine) return;
  for (auto& [stream, line] : lines_)
    run_until(line, line.enqueued);  // nothing may write to them later
  while (freed_bytes_ > kQuarantine / 2 && !freed_.empty()) {
    const auto oldest = blocks_.find(freed_.front());
    freed_.pop_front();
    freed_bytes_ -= oldest->second.bytes;
    blocks_.erase(oldest);
  }
}

bool FakeDevice::park(void* pointer, size_t bytes, Stream stream) {
  std::lock_guard lock(mutex_);
  Line& line = line_of(stream);
  if (!parkable_ || line.capturing) return false;  // mappings cannot be captured
  Block* block = block_at(pointer, bytes, "park", stream);
  if (!block) return false;
  if (block->state == Block::kParked) return true;
  const Stamp stamp = begin(line);
  check_end_of_use(*block, stamp, line.clock, "park");
  block->state = Block::kParked;
  memory_.parked_bytes += block->bytes;
  memory_.reserved_bytes -= block->bytes;
  enqueue(line, Work{[base = block->base, size = block->bytes] {
            std::memset(base, kParkedByte, size);
          }});
  return true;
}

Status FakeDevice::unpark(void* pointer, size_t bytes, Stream stream) {
  std::lock_guard lock(mutex_);
  Block* block = block_at(pointer, bytes, "unpark", stream);
  if (!block || block->state != Block::kParked) return ok_status();
  if (strikes(&fail_unpark_))
    return Status(RC_E_MEMORY, "", format("%zu bytes refused by the test", bytes));
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  check_end_of_use(*block, stamp, line.clock, "unpark");
  block->state = Block::kLive;
  block->usable = stamp;
  memory_.parked_bytes -= block->bytes;
  memory_.reserved_bytes += block->bytes;
  enqueue(line,
          Work{[base = block->base, size = block->bytes] { std::memset(base, kUndefined, size); }});
  return ok_status();
}

void FakeDevice::adopt(void* pointer, size_t bytes) {
  std::lock_guard lock(mutex_);
  char* base = static_cast<char*>(pointer);
  Block block{++last_block_,    base,   bytes, false, Block::kLive, host_.advance(0),
              AccessLog(bytes), nullptr};
  (void)block.accesses.access(0, bytes, true, block.usable, host_);
  blocks_.insert_or_assign(base, std::move(block));
}

void FakeDevice::disown(void* pointer, Stream stream) {
  std::lock_guard lock(mutex_);
  const auto found = blocks_.find(static_cast<char*>(pointer));
  if (found == blocks_.end() || found->second.ours)
    return log_->add("disown of memory that was not adopted");
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  check_end_of_use(found->second, stamp, line.clock, "disown");
  blocks_.erase(found);
}

DeviceMemory FakeDevice::memory() const {
  std::lock_guard lock(mutex_);
  return memory_;
}

Status FakeDevice::copy(void* destination, const void* source, size_t bytes, Stream stream) {
  std::lock_guard lock(mutex_);
  if (strikes(&fail_copy_))
    return Status(RC_E_DEVICE, "", format("copy of %zu bytes refused by the test", bytes));
  Line& line = line_of(stream);
  const Stamp stamp = begin(line);
  if (bytes == 0) return ok_status();
  const uintptr_t to = reinterpret_cast<uintptr_t>(destination),
                  from = reinterpret_cast<uintptr_t>(source);
  if (to < from + bytes && from < to + bytes) {
    log_->add(format("copy of %zu bytes on %s overlaps itself", bytes, name(line.actor).c_str()));
  }
  check(stamp, line.clock, source, bytes, false, "copy out");
  check(stamp, line.clock, destination, bytes, true, "copy in");
  enqueue(line, Work{[=] { std::memmove(destination, source, bytes); }});
  return ok_status();
}

// ---- events

// nullptr, with a complaint, where the event is no more or never was.
FakeDevice::Mark* FakeDevice::mark_of(Event event, const char* call) {
  const auto found = marks_.find(event);
  if (found == marks_.end()) {
    log_->add(format("%s of event %llu, which was never recorded", call, number(event)));
    return nullptr;
  }
  if (found->second.released) {
    log_->add(format("%s of event %llu comes after its release", call, number(event)));
    return nullptr;
  }
  return &found->second;
}

Status FakeDevice::record(Stream stream, Event* out) {
  std::lock_guard lock(mutex_);
  *out = 0;
  if (strikes(&fail_record_)) return Status(RC_E_DEVICE, "", "record refused by the test");
  Line& line = line_of(stream);
  begin(line);
  *out = ++last_event_;
  marks_[*out] = Mark{&line, line.clock, line.enqueued};
  return ok_status();
}

Status FakeDevice::wait(Stream stream, Event event) {
  if (event == 0) return ok_status();
  std::lock_guard lock(mutex_);
  const Mark* mark = mark_of(event, "wait");
  if (!mark) return ok_status();
  Line& line = line_of(stream);
  begin(line);
  line.clock.join(mark->clock);
  enqueue(line, Work{nullptr, event});
  return ok_status();
}

bool FakeDevice::query(Event event) {
  if (event == 0) return true;
  std::lock_guard lock(mutex_);
  Mark* mark = mark_of(event, "query");
  if (!mark) return true;
  if (mark->line->capturing) {
    log_->add(format("query of event %llu while %s is capturing", number(event),
                     name(mark->line->actor).c_str()));
    return false;
  }
  if (mark->queries < query_delay_) {
    ++mark->queries;
    return false;
  }
  run_until(*mark->line, mark->position);
  host_.join(mark->clock);
  return true;
}

void FakeDevice::release(Event event) {
  if (event == 0) return;
  std::lock_guard lock(mutex_);
  if (Mark* mark = mark_of(event, "release")) mark->released = true;
}

Status FakeDevice::synchronize(Stream stream) {
  std::lock_guard lock(mutex_);
  Line& line = line_of(stream);
  if (line.capturing) {
    log_->add(format("synchronize of %s while it is capturing", name(line.actor).c_str()));
    return Status(RC_E_CAPTURE, "", "the stream is capturing");
  }
  run_until(line, line.enqueued);
  host_.join(line.clock);
  return ok_status();
}

bool FakeDevice::capturing(Stream stream) {
  std::lock_guard lock(mutex_);
  return line_of(stream).capturing;
}

}  // namespace rc
