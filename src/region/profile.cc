// src/region/profile.cc: medians over regions that are alike.
#include "src/region/profile.h"

#include <algorithm>
#include <functional>
#include <string>

namespace rc {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

uint64_t median(std::vector<uint64_t>* values) {
  const auto middle = values->begin() + static_cast<long>(values->size() / 2);
  std::nth_element(values->begin(), middle, values->end());
  return *middle;
}

}  // namespace

std::vector<uint64_t> likeness_of(const CallLog& log) {
  const auto name = [&](uint32_t region) {
    const CallLog::LoggedModule& m = log.modules()[log.regions()[region].module];
    return std::hash<std::string>()(m.kind + "\n" + m.name);
  };
  std::vector<uint64_t> all(log.regions().size());
  for (uint32_t r = 0; r < all.size(); ++r) {
    const CallLog::LoggedRegion& region = log.regions()[r];
    const size_t end = std::min(region.end, log.calls().size());
    uint64_t hash = name(r);
    for (size_t i = region.begin; i < end; ++i) {
      const CallLog::Call& c = log.calls()[i];
      if (!log.within(c.region, r)) continue;
      hash = mix(hash, c.op);
      hash = mix(hash, c.slot);
      hash = mix(hash, c.bytes);
      if (c.op == CallLog::kBegin) hash = mix(hash, name(c.region));
    }
    all[r] = hash;
  }
  return all;
}

bool Profile::take_try(uint64_t module_serial) {
  return tries_[module_serial]++ < kTriesPerModule;
}

void Profile::add_trial(uint32_t region, const std::vector<uint32_t>& slots, uint64_t ns) {
  trials_.push_back({region, slots, ns});
}

void Profile::settle(const CallLog& log, uint64_t end_ns) {
  const uint64_t whole = end_ns - begin_ns_, other = trial_ns_ + replay_ns_;
  step_ns_ = whole > other ? whole - other : 0;
  likeness_ = likeness_of(log);
  std::unordered_map<uint64_t, std::map<Slots, std::vector<uint64_t>>> samples;
  for (const Trial& t : trials_) samples[likeness_[t.region]][t.slots].push_back(t.ns);
  for (auto& [like, by_slots] : samples)
    for (auto& [slots, values] : by_slots) ns_[like][slots] = median(&values);
  std::unordered_map<uint64_t, std::vector<uint64_t>> forwards;
  for (const auto& [region, ns] : forward_) forwards[likeness_[region]].push_back(ns);
  for (auto& [like, values] : forwards) forward_ns_[like] = median(&values);
  settled_ = true;
}

uint64_t Profile::forward_ns(uint32_t region) const {
  const auto found = forward_ns_.find(likeness_[region]);
  return found == forward_ns_.end() ? 0 : found->second;
}

uint64_t Profile::replay_ns(uint32_t region, std::span<const uint32_t> slots) const {
  const auto tried = ns_.find(likeness_[region]);
  if (tried == ns_.end()) return forward_ns(region);
  const Slots wanted(slots.begin(), slots.end());
  if (const auto same = tried->second.find(wanted); same != tried->second.end())
    return same->second;
  uint64_t least = UINT64_MAX, sum = 0;
  for (const auto& [have, ns] : tried->second) {
    if (std::includes(have.begin(), have.end(), wanted.begin(), wanted.end()))
      least = std::min(least, ns);
    if (have.size() == 1 && std::binary_search(wanted.begin(), wanted.end(), have[0])) sum += ns;
  }
  if (least != UINT64_MAX) return least;
  return sum > 0 ? sum : forward_ns(region);
}

}  // namespace rc
