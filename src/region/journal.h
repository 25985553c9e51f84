// src/region/journal.h: what a forward drew and decided, so that replay draws and decides the same.
//
// A region has one entry of its own. A region whose replay may run also keeps the entries of the
// regions nested in it, in the order of their begin: its replay begins them anew, and each finds
// its entry by (module, chunk, microbatch) from a cursor on, so that an extra evaluation or a
// skipped branch does not shift the others.
#pragma once

#include <cstdint>
#include <vector>

#include "src/storage/storage.h"
#include "src/storage/tensor_meta.h"

namespace rc {

class Module;

struct RngRecord {
  uint64_t offset = 0, blocks = 0;
};

struct DecisionRecord {
  uint32_t slot = 0;
  Block* block = nullptr;  // one ref and one hold
  TensorMeta meta;
};

struct DigestRecord {
  uint32_t slot = 0;
  uint64_t digest = 0, bytes = 0;
};

struct JournalEntry {
  const Module* module = nullptr;
  uint32_t chunk = 0, microbatch = 0, occurrence = 0;
  uint64_t read_in = 0;  // the journal's round in which a replay began its region anew
  std::vector<RngRecord> rng;
  std::vector<DecisionRecord> decisions;
  std::vector<DigestRecord> digests;

  void copy_from(const JournalEntry& other, Storage* storage);
  // Room for one more draw and one more decision, so that recording it cannot fail.
  void make_room();
  void clear(Storage* storage, Stream stream);
  const DecisionRecord* decision(uint32_t slot) const;
};

class Journal {
 public:
  JournalEntry& append();
  JournalEntry& at(size_t i) { return entries_[i]; }
  size_t size() const { return used_; }
  void rewind() {
    cursor_ = 0;
    ++round_;
  }
  // The next entry of this site from the cursor on; else one before it that was not read in this
  // round, since threads of a callback may begin regions in another order. NULL if there is none.
  JournalEntry* next(const Module* module, uint32_t chunk, uint32_t microbatch);
  void clear(Storage* storage, Stream stream);

 private:
  std::vector<JournalEntry> entries_;  // the first used_ are valid; the rest keep their capacity
  size_t used_ = 0, cursor_ = 0;
  uint64_t round_ = 0;
};

}  // namespace rc
