// src/region/trial.cc: which replays of a region a profiled step tries, and how often.
//
// A trial runs when backward asks for the region, the moment at which a real replay would run: the
// host is ready for it, the inputs are there. It writes over the content with the same bits. What
// is tried is what policies ask for: everything that the kind's rule drops, as one decision, since
// one run of the module's code makes it all (a norm's output and its statistics); and, where
// several slots are large, each of these alone.
#include <algorithm>

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/profile.h"

namespace rc {
namespace {

// The second run finds everything in the caches, which a replay does not: it only unmasks a first
// run that something disturbed. Where regions are nested it counts: the first one had to get memory
// for them, which in the arena is there.
constexpr int kRuns = 2;
constexpr uint64_t kDisturbed = 3;  // times the second run
// Of what a module drops, a slot below this share goes with the rest.
constexpr double kLargeShare = 1.0 / 16;
constexpr size_t kMostLarge = 4;  // more are one decision: trying all of them takes too long

// Content that a drop by policy would lose and a replay bring back.
bool could_drop(const Region* r, const SlotState& s) {
  if (s.done || s.source || !s.present()) return false;
  if (s.content == SlotState::kHostKept) return false;
  if (s.content == SlotState::kBlock && !s.owner) return false;
  if (s.role == RC_ROLE_SAVED) return s.content != SlotState::kHostManaged;
  return s.role == RC_ROLE_OUTPUT && r->discards_output;
}

std::vector<std::vector<uint32_t>> variants(const Region* r) {
  std::vector<std::vector<uint32_t>> all(1);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    if (!could_drop(r, r->slots[i])) continue;
    all[0].push_back(i);
    bytes += r->slots[i].meta.bytes();
  }
  const bool nests = r->journal.size() > 0;
  if (all[0].empty() && !nests) return {};
  std::vector<uint32_t> large;
  for (uint32_t i : all[0])
    if (double(r->slots[i].meta.bytes()) >= kLargeShare * double(bytes)) large.push_back(i);
  if (large.size() > 1 && large.size() <= kMostLarge && large.size() < all[0].size() + 1)
    for (uint32_t i : large) all.push_back({i});
  // What is nested, without an output that is read by others, and with it: in a unit of several
  // layers the one behind reads it.
  for (uint32_t i = 0; nests && i < r->n_slots; ++i) {
    const SlotState& s = r->slots[i];
    if (s.role != RC_ROLE_OUTPUT || r->discards_output || s.content != SlotState::kBlock ||
        !s.owner || !s.present() || s.done)
      continue;
    std::vector<uint32_t> with = all[0];
    with.insert(std::upper_bound(with.begin(), with.end(), i), i);
    all.push_back(std::move(with));
  }
  return all;
}

bool inside_a_replay(const Region* r) {
  for (const Region* p = r->parent; p; p = p->parent)
    if (p->replaying) return true;
  return LogPause::on();
}

}  // namespace

Status try_replays(Locked& lock, Region* r, Stream stream) {
  Context* context = r->context;
  const std::shared_ptr<Profile> profile = context->profile;
  const CallLog* log = log_of(r);
  if (!profile || !log || r->tried || r->transient || r->replaying || inside_a_replay(r))
    return ok_status();
  const uint32_t logged = log->find(r);
  if (logged == CallLog::kNone) return ok_status();
  const std::vector<std::vector<uint32_t>> all = variants(r);
  r->tried = true;
  if (all.empty() || !profile->take_try(r->module->serial)) return ok_status();
  const bool nests = r->journal.size() > 0;
  for (const std::vector<uint32_t>& slots : all) {
    uint64_t took[kRuns] = {};
    for (uint64_t& ns : took) {
      const uint64_t begin = now_ns();
      Status status = replay_trial(lock, r, slots, stream, &ns);
      profile->add_trial_time(now_ns() - begin);
      RC_TRY(std::move(status));
    }
    const bool second = nests || took[0] > kDisturbed * took[1];
    profile->add_trial(logged, slots, took[second ? 1 : 0]);
  }
  return ok_status();
}

}  // namespace rc
