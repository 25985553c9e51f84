// src/region/journal.cc: entries of draws and decisions.
#include "src/region/journal.h"

#include <algorithm>
#include <utility>

namespace rc {

void JournalEntry::copy_from(const JournalEntry& other, Storage* storage) {
  module = other.module;
  chunk = other.chunk;
  microbatch = other.microbatch;
  occurrence = other.occurrence;
  rng = other.rng;
  digests = other.digests;
  decisions = other.decisions;
  for (DecisionRecord& d : decisions) {
    storage->ref(d.block);
    storage->hold(d.block);
  }
}

void JournalEntry::make_room() {
  constexpr size_t kFirst = 4;
  if (rng.size() == rng.capacity()) rng.reserve(std::max(kFirst, 2 * rng.size()));
  if (decisions.size() == decisions.capacity())
    decisions.reserve(std::max(kFirst, 2 * decisions.size()));
}

void JournalEntry::clear(Storage* storage, Stream stream) {
  for (DecisionRecord& d : decisions) {
    storage->unhold(d.block, stream, false);
    storage->unref(d.block, stream);
  }
  decisions.clear();
  rng.clear();
  digests.clear();
  module = nullptr;
}

const DecisionRecord* JournalEntry::decision(uint32_t slot) const {
  for (const DecisionRecord& d : decisions)
    if (d.slot == slot) return &d;
  return nullptr;
}

JournalEntry& Journal::append() {
  if (used_ == entries_.size()) entries_.emplace_back();
  return entries_[used_++];
}

JournalEntry* Journal::next(const Module* module, uint32_t chunk, uint32_t microbatch) {
  const auto take = [&](size_t i) {
    JournalEntry& e = entries_[i];
    if (e.module != module || e.chunk != chunk || e.microbatch != microbatch) return false;
    return std::exchange(e.read_in, round_) != round_;
  };
  for (size_t i = cursor_; i < used_; ++i) {
    if (!take(i)) continue;
    cursor_ = i + 1;
    return &entries_[i];
  }
  for (size_t i = 0; i < cursor_; ++i)
    if (take(i)) return &entries_[i];
  return nullptr;
}

void Journal::clear(Storage* storage, Stream stream) {
  for (size_t i = 0; i < used_; ++i) entries_[i].clear(storage, stream);
  used_ = cursor_ = 0;
}

}  // namespace rc
