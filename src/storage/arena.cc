// src/storage/arena.cc: recording of a step, and the places its blocks get in later ones.
#include "src/storage/arena.h"

#include "src/device/device.h"
#include "src/storage/packer.h"

namespace rc {
namespace {

// Planning runs between two steps: bounded by work, not by time, so that every run gives the same
// plan.
constexpr uint64_t kPlanNodes = 200'000;

}  // namespace

void StepRecording::begin_step() {
  index_.clear();
  entries_.clear();
  moves_.clear();
  broken_ = false;
}

uint32_t StepRecording::use(const BlockKey& key, uint64_t bytes) try {
  if (broken_) return Arena::kNone;
  const auto [it, fresh] = index_.try_emplace(key, static_cast<uint32_t>(entries_.size()));
  if (fresh)
    entries_.push_back({.key = key, .bytes = bytes, .begin = -1, .ambiguous = false, .live = {}});
  Entry& entry = entries_[it->second];
  if (entry.bytes != bytes || entry.begin >= 0) entry.ambiguous = true;
  entry.begin = static_cast<int64_t>(moves_.size());
  moves_.push_back({it->second, true});
  return it->second;
} catch (const std::bad_alloc&) {
  broken_ = true;
  return Arena::kNone;
}

void StepRecording::release(uint32_t index) try {
  if (broken_) return;
  Entry& entry = entries_[index];
  if (entry.begin < 0) return;
  entry.live.push_back({entry.begin, static_cast<int64_t>(moves_.size())});
  entry.begin = -1;
  moves_.push_back({index, false});
} catch (const std::bad_alloc&) {
  broken_ = true;
}

PackingProblem StepRecording::problem() const {
  PackingProblem problem;
  problem.buffers.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    PackingBuffer buffer;
    buffer.alignment = kBlockAlignment;
    if (!entry.ambiguous && entry.begin < 0) {
      buffer.size = entry.bytes;
      buffer.live = entry.live;
    }
    problem.buffers.push_back(std::move(buffer));
  }
  return problem;
}

bool Arena::plan(const StepRecording& recording) {
  clear();
  if (recording.broken()) return false;
  const PackingProblem problem = recording.problem();
  PackOptions options;
  options.node_limit = kPlanNodes;
  options.tolerance = 0.001;
  options.time_limit =
      2;  // far above what the node limit takes, so that the plan stays deterministic
  const Packing packing = pack(problem, options);
  if (!packing.error.empty() || packing.height == 0) return false;
  plan_ = {.bytes = packing.height, .bound = packing.lower_bound};
  const auto& entries = recording.entries();
  std::vector<uint32_t> place_of(entries.size(), kNone);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (problem.buffers[i].size == 0) continue;
    place_of[i] = static_cast<uint32_t>(places_.size());
    index_.emplace(entries[i].key, place_of[i]);
    places_.push_back(
        {.key = entries[i].key, .offset = packing.offsets[i], .bytes = entries[i].bytes});
  }
  for (const StepRecording::Move& move : recording.moves())
    if (place_of[move.entry] != kNone) expected_.push_back({place_of[move.entry], move.use});
  active_.reserve(places_.size());
  return true;
}

void Arena::clear() {
  index_.clear();
  places_.clear();
  active_.clear();
  expected_.clear();
  plan_ = {};
  base_ = nullptr;
  on_plan_ = false;
  misses_ = 0;
}

void Arena::begin_step() {
  cursor_ = 0;
  // Blocks of an earlier step that are still live break the premise of the recorded order.
  on_plan_ = active_.empty();
  misses_ = 0;
}

bool Arena::follow(uint32_t place, bool use) {
  if (on_plan_) {
    if (cursor_ < expected_.size() && expected_[cursor_].entry == place &&
        expected_[cursor_].use == use)
      ++cursor_;
    else
      on_plan_ = false;
  }
  return on_plan_;
}

bool Arena::fits(const Place& place) const {
  for (uint32_t other_index : active_) {
    const Place& other = places_[other_index];
    if (&other != &place && place.offset < other.offset + other.bytes &&
        other.offset < place.offset + place.bytes)
      return false;
  }
  return true;
}

void Arena::activate(uint32_t place, Place::State state) {
  Place& p = places_[place];
  if (p.active == kNone) {
    p.active = static_cast<uint32_t>(active_.size());
    active_.push_back(place);
  }
  p.state = state;
}

void Arena::deactivate(uint32_t place) {
  Place& p = places_[place];
  p.state = Place::kFree;
  if (p.active == kNone) return;
  active_[p.active] = active_.back();
  places_[active_.back()].active = p.active;
  active_.pop_back();
  p.active = kNone;
}

uint32_t Arena::take(const BlockKey& key, uint64_t bytes) {
  const auto it = index_.find(key);
  if (it == index_.end()) {
    on_plan_ = false;
    ++misses_;
    return kNone;
  }
  Place& place = places_[it->second];
  if (place.state != Place::kFree || place.bytes != bytes ||
      (!follow(it->second, true) && !fits(place))) {
    on_plan_ = false;
    ++misses_;
    return kNone;
  }
  activate(it->second, Place::kLive);
  return it->second;
}

bool Arena::retake(uint32_t index) {
  Place& place = places_[index];
  if (!follow(index, true)) {
    // Off the plan an intruder may still sit in the gap; awaited neighbours have no content and do
    // not matter.
    for (uint32_t other_index : active_) {
      const Place& other = places_[other_index];
      if (other_index != index && other.state == Place::kLive &&
          place.offset < other.offset + other.bytes && other.offset < place.offset + place.bytes) {
        ++misses_;
        return false;
      }
    }
  }
  activate(index, Place::kLive);
  return true;
}

void Arena::drop(uint32_t index) {
  follow(index, false);
  activate(index, Place::kAwaited);
}

void Arena::give(uint32_t index) {
  if (places_[index].state == Place::kLive) follow(index, false);
  deactivate(index);
}

}  // namespace rc
