// src/budget/ways.cc: groups of a logged step, and the forecast of every way to treat one.
#include "src/budget/ways.h"

#include <algorithm>
#include <map>
#include <set>

namespace rc::budget {
namespace {

constexpr size_t kMostWays = 384;  // forecasts for one sort of group
constexpr size_t kMostUnits = 96;  // forecasts of units
constexpr double kLargeShare = 1.0 / 16;
constexpr size_t kMostLarge = 4;

const CallLog::LoggedModule& module_of(const CallLog& log, uint32_t region) {
  return log.modules()[log.regions()[region].module];
}

// Kinds that stand in layers: their root is a layer's region, or they are met in several layers.
std::set<std::string> layered_kinds(const CallLog& log) {
  std::map<std::string, std::set<uint32_t>> layers;
  std::set<std::string> layered;
  for (uint32_t r = 0; r < log.regions().size(); ++r) {
    const CallLog::LoggedModule& m = module_of(log, r);
    layers[m.kind].insert(m.layer);
    uint32_t root = r;
    while (log.regions()[root].parent != CallLog::kNone) root = log.regions()[root].parent;
    if (module_of(log, root).kind == "layer") layered.insert(m.kind);
  }
  for (const auto& [kind, where] : layers)
    if (where.size() > 1) layered.insert(kind);
  return layered;
}

class Finder {
 public:
  Finder(const Measured& measured, Ways* out) : m_(measured), log_(*measured.log), out_(*out) {}

  Status run() {
    RC_TRY(m_.forecast_of(m_.base, ForecastDetail::kCurve, &base_));
    out_.forecasts = 1;
    out_.keep_all_peak = base_.peak_bytes;
    if (!find_backward()) return ok_status();  // nothing is ever asked for: all is kept
    find_groups();
    if (out_.chunked) find_rows();
    for (Group& g : out_.groups) g.base_transient = most(base_, g);
    RC_TRY(find_single_ways());
    return find_units();
  }

 private:
  // The first replay; its microbatch is the one whose backward is watched.
  bool find_backward() {
    const auto& calls = log_.calls();
    const auto first = std::find_if(calls.begin(), calls.end(), [](const CallLog::Call& c) {
      return c.op == CallLog::kReplay;
    });
    if (first == calls.end()) return false;
    out_.first_replay = size_t(first - calls.begin());
    watched_ = log_.regions()[first->region].microbatch;
    std::set<std::pair<uint32_t, uint32_t>> open;  // microbatch, region
    for (size_t i = 0; i < out_.first_replay; ++i) {
      const auto key = std::make_pair(log_.regions()[calls[i].region].microbatch, calls[i].region);
      if (calls[i].op == CallLog::kBegin) open.insert(key);
      if (calls[i].op == CallLog::kRelease || calls[i].op == CallLog::kCancel) open.erase(key);
    }
    std::set<uint32_t> microbatches;
    for (const auto& [microbatch, region] : open) microbatches.insert(microbatch);
    out_.held = std::max<int64_t>(1, int64_t(microbatches.size()));
    return true;
  }

  void find_groups() {
    const std::set<std::string> layered = layered_kinds(log_);
    const std::vector<uint64_t> likeness = likeness_of(log_);
    std::map<std::pair<std::string, uint32_t>, size_t> index;
    std::vector<size_t> group_of(log_.regions().size(), SIZE_MAX);
    std::vector<Group>& groups = out_.groups;
    for (uint32_t r = 0; r < log_.regions().size(); ++r) {
      if (log_.regions()[r].microbatch != watched_) continue;
      const CallLog::LoggedModule& m = module_of(log_, r);
      const bool layer = layered.count(m.kind) > 0;
      const auto [at, fresh] =
          index.try_emplace({layer ? "layer" : m.kind, m.layer}, groups.size());
      if (fresh) {
        groups.emplace_back();
        groups.back().name = layer ? "layer" : m.kind;
        groups.back().layer = m.layer;
        groups.back().chunk = log_.regions()[r].chunk;
        groups.back().is_layer = layer;
      }
      Group& g = groups[at->second];
      out_.chunked |= log_.regions()[r].chunk != log_.regions()[0].chunk;
      group_of[r] = at->second;
      g.likeness = g.likeness * 0x9e3779b97f4a7c15u + likeness[r];
      if (m.kind == "layer")
        g.has_whole = true;
      else if (std::find(g.kinds.begin(), g.kinds.end(), m.kind) == g.kinds.end())
        g.kinds.push_back(m.kind);
    }
    for (size_t i = 0; i < log_.calls().size(); ++i) {
      const size_t g = group_of[log_.calls()[i].region];
      if (g != SIZE_MAX) groups[g].window_end = i + 1;
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](const Group& a, const Group& b) { return a.window_end > b.window_end; });
    size_t begin = 0;
    for (size_t g = groups.size(); g-- > 0;) {
      groups[g].window_begin = begin;
      groups[g].held = out_.held;
      begin = groups[g].window_end;
    }
  }

  // Each group's backward of most bytes, and how many microbatches of each group are held then.
  void find_rows() {
    struct Span {
      size_t begin = SIZE_MAX, backward = SIZE_MAX, end = 0;
    };
    std::vector<Group>& groups = out_.groups;
    std::map<std::pair<bool, std::pair<std::string, uint32_t>>, size_t> index;
    for (size_t g = 0; g < groups.size(); ++g)
      index[{groups[g].is_layer, {groups[g].is_layer ? "" : groups[g].name, groups[g].layer}}] = g;
    const std::set<std::string> layered = layered_kinds(log_);
    std::vector<std::map<uint32_t, Span>> spans(groups.size());  // of each microbatch
    for (size_t i = 0; i < log_.calls().size(); ++i) {
      const CallLog::Call& call = log_.calls()[i];
      const CallLog::LoggedModule& m = module_of(log_, call.region);
      const bool layer = layered.count(m.kind) > 0;
      const auto at = index.find({layer, {layer ? "" : m.kind, m.layer}});
      if (at == index.end()) continue;
      Span& span = spans[at->second][log_.regions()[call.region].microbatch];
      span.begin = std::min(span.begin, i);
      span.end = i + 1;
      if (call.op == CallLog::kReplay) span.backward = std::min(span.backward, i);
    }
    const auto held_at = [&](size_t g, size_t call) {
      return std::count_if(spans[g].begin(), spans[g].end(), [&](const auto& one) {
        return one.second.begin <= call && call < one.second.end;
      });
    };
    for (size_t g = 0; g < groups.size(); ++g) {
      groups[g].held = std::max<int64_t>(1, held_at(g, out_.first_replay));
      int64_t peak = -1;
      for (const auto& [microbatch, span] : spans[g]) {
        const size_t begin = std::min(span.backward, span.end - 1);
        const int64_t bytes = most_between(base_, begin, span.end);
        std::vector<int64_t> held;
        for (size_t j = 0; j < groups.size(); ++j) held.push_back(held_at(j, begin));
        add_row(g, bytes, held);
        if (bytes <= peak) continue;
        peak = bytes;
        own_held_[g] = held[g];
        groups[g].window_begin = begin;
        groups[g].window_end = span.end;
      }
      out_.row_frame.most.push_back(peak);
    }
  }

  // Unless as much of everything is held in another row of the place.
  void add_row(size_t place, int64_t bytes, const std::vector<int64_t>& held) {
    RowPath& rows = out_.row_frame;
    const auto no_more = [](const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), std::less_equal<>());
    };
    for (size_t r = rows.place.size(); r-- > 0 && rows.place[r] == place;) {
      if (no_more(held, rows.held[r]) && bytes <= rows.base[r]) return;
      if (!no_more(rows.held[r], held) || rows.base[r] > bytes) continue;
      rows.place.erase(rows.place.begin() + long(r));
      rows.held.erase(rows.held.begin() + long(r));
      rows.base.erase(rows.base.begin() + long(r));
    }
    rows.place.push_back(place);
    rows.held.push_back(held);
    rows.base.push_back(bytes);
  }

  static int64_t most_between(const Forecast& f, size_t begin, size_t end) {
    uint64_t peak = 0;
    for (size_t i = begin; i < end && i < f.peak.size(); ++i) peak = std::max(peak, f.peak[i]);
    return int64_t(peak);
  }
  static int64_t most(const Forecast& f, const Group& g) {
    return most_between(f, g.window_begin, g.window_end);
  }
  int64_t most(const Forecast& f, size_t group, uint32_t layers) const {
    int64_t peak = 0;
    for (size_t g = group; g < group + layers; ++g) peak = std::max(peak, most(f, out_.groups[g]));
    return peak;
  }

  // False where the policy cannot be written, which leaves the way out.
  Status measure(size_t group, Way* way, bool* good) {
    *good = false;
    const PolicySpec spec = policy_of_way(group, *way);
    Forecast f;
    ++out_.forecasts;
    Status status = m_.forecast_of(spec, ForecastDetail::kCurve, &f);
    if (status.code() == RC_E_ARGUMENT) return ok_status();
    RC_TRY(std::move(status));
    const size_t before = out_.first_replay - (out_.first_replay > 0);
    const int64_t freed = int64_t(base_.live[before]) - int64_t(f.live[before]);
    way->freed = freed / out_.groups[group].held;
    way->transient =
        most(f, group, way->layers) + (out_.chunked ? way->freed * own_held_.at(group) : freed);
    way->added = way->transient - most(base_, group, way->layers);
    way->cost = int64_t(f.replay_ns);
    *good = true;
    return ok_status();
  }

  PolicySpec policy_of_way(size_t group, const Way& way) const {
    Ways alone;
    alone.groups = {out_.groups.begin() + long(group),
                    out_.groups.begin() + long(group + way.layers)};
    alone.groups[0].ways = {way};
    alone.groups[0].units.clear();
    alone.groups.resize(1);
    return policy_of(m_, alone, {{0, 0}});
  }

  // Slots of a module that are worth a decision of their own.
  std::vector<Again> slots_of(const Group& g, const std::string& kind) const {
    std::map<std::string, uint64_t> bytes;
    uint64_t sum = 0;
    for (const CallLog::Call& c : log_.calls()) {
      if (c.op != CallLog::kAlloc && c.op != CallLog::kSaveCopy && c.op != CallLog::kSaveTensor)
        continue;
      const CallLog::LoggedRegion& region = log_.regions()[c.region];
      const CallLog::LoggedModule& module = log_.modules()[region.module];
      if (region.microbatch != watched_ || module.kind != kind || module.layer != g.layer) continue;
      const size_t declared = module.slots.size();
      const SlotDef& def =
          c.slot < declared ? module.slots[c.slot] : region.added[c.slot - declared];
      if (def.role != RC_ROLE_SAVED) continue;
      bytes[def.name] += c.bytes;
      sum += c.bytes;
    }
    std::vector<Again> large;
    for (const auto& [name, n] : bytes)
      if (double(n) >= kLargeShare * double(sum)) large.push_back({kind, name});
    if (large.size() < 2 || large.size() > kMostLarge) large.clear();
    return large;
  }

  // What each kind of the group can do: nothing, all, one slot; only what frees something.
  Status find_options(size_t group, std::vector<std::vector<Way>>* options) {
    const Group& g = out_.groups[group];
    for (const std::string& kind : g.kinds) {
      std::vector<Way> of_kind;
      std::vector<Again> again = slots_of(g, kind);
      again.insert(again.begin(), {kind, ""});
      for (const Again& one : again) {
        Way way;
        way.again = {one};
        bool good = false;
        RC_TRY(measure(group, &way, &good));
        if (good && way.freed > 0) of_kind.push_back(std::move(way));
      }
      if (!of_kind.empty()) options->push_back(std::move(of_kind));
    }
    std::stable_sort(options->begin(), options->end(),
                     [](const auto& a, const auto& b) { return a[0].freed > b[0].freed; });
    size_t product = 1;
    for (size_t k = 0; k < options->size(); ++k) {
      product *= (*options)[k].size() + 1;
      if (product <= kMostWays) continue;
      options->resize(k);
      out_.complete = false;
    }
    return ok_status();
  }

  Status combine(size_t group, const std::vector<std::vector<Way>>& options,
                 std::vector<Way>* ways) {
    std::vector<size_t> pick(options.size(), 0);
    while (true) {
      size_t k = 0;
      while (k < pick.size() && ++pick[k] > options[k].size()) pick[k++] = 0;
      if (k == pick.size()) return ok_status();
      Way way;
      const Way* single = nullptr;
      for (size_t i = 0; i < pick.size(); ++i) {
        if (pick[i] == 0) continue;
        single = way.again.empty() ? &options[i][pick[i] - 1] : nullptr;
        for (const Again& one : options[i][pick[i] - 1].again) way.again.push_back(one);
      }
      if (single) {
        ways->push_back(*single);
        continue;
      }
      if (m_.late()) {
        out_.complete = false;
        continue;
      }
      bool good = false;
      RC_TRY(measure(group, &way, &good));
      if (good) ways->push_back(std::move(way));
    }
  }

  // Keeping everything first; the others less what another one is no worse than in all respects.
  static void prune(std::vector<Way>* ways) {
    std::vector<Way> kept = {(*ways)[0]};
    std::stable_sort(ways->begin() + 1, ways->end(), [](const Way& a, const Way& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.freed > b.freed;
    });
    for (size_t i = 1; i < ways->size(); ++i) {
      const Way& way = (*ways)[i];
      const bool worse = std::any_of(kept.begin(), kept.end(), [&](const Way& other) {
        return other.cost <= way.cost && other.freed >= way.freed && other.added <= way.added;
      });
      if (!worse) kept.push_back(way);
    }
    ways->swap(kept);
  }

  // In the middle of those that are alike: the outer ones have neighbours of another sort.
  Status find_single_ways() {
    std::map<uint64_t, std::vector<size_t>> alike;
    for (size_t g = 0; g < out_.groups.size(); ++g) alike[out_.groups[g].likeness].push_back(g);
    for (const auto& [likeness, members] : alike) {
      const size_t chosen = members[members.size() / 2];
      std::vector<Way> ways(1);
      std::vector<std::vector<Way>> options;
      RC_TRY(find_options(chosen, &options));
      RC_TRY(combine(chosen, options, &ways));
      if (out_.groups[chosen].has_whole) {
        Way whole;
        whole.whole_layer = true;
        bool good = false;
        RC_TRY(measure(chosen, &whole, &good));
        if (good && whole.freed > 0) ways.push_back(whole);
      }
      prune(&ways);
      for (const size_t g : members) out_.groups[g].ways = ways;
    }
    return ok_status();
  }

  Status find_units() {
    std::map<std::vector<uint64_t>, Way> known;
    const size_t n = out_.groups.size();
    for (uint32_t length = 2; length <= n; length += length < 16 ? 1 : length / 4) {
      // From the middle outwards, so that the first of a sort has neighbours like it.
      for (size_t k = 0; k < n; ++k) {
        const size_t place = (n - length) / 2 + k;
        const size_t at = place >= n ? place - n : place;
        if (!is_run(at, length)) continue;
        std::vector<uint64_t> sort;
        for (size_t i = 0; i < length; ++i) sort.push_back(out_.groups[at + i].likeness);
        const auto found = known.find(sort);
        Way way;
        way.whole_layer = true;
        way.layers = length;
        bool good = true;
        if (found != known.end()) {
          way = found->second;
        } else if (known.size() >= kMostUnits || m_.late()) {
          out_.complete = false;
          continue;
        } else {
          RC_TRY(measure(at, &way, &good));
          if (good) known.emplace(sort, way);
        }
        if (good && way.freed > 0) out_.groups[at].units.push_back(way);
      }
    }
    return ok_status();
  }

  bool is_run(size_t at, uint32_t length) const {
    if (at + length > out_.groups.size()) return false;
    for (size_t i = 0; i < length; ++i) {
      const Group& g = out_.groups[at + i];
      if (!g.has_whole || g.layer != out_.groups[at].layer + i) return false;
      if (g.chunk != out_.groups[at].chunk) return false;
    }
    return true;
  }

  const Measured& m_;
  const CallLog& log_;
  Ways& out_;
  Forecast base_;
  std::map<size_t, int64_t> own_held_;  // where chunked: of a group in its window
  uint32_t watched_ = 0;
};

}  // namespace

Status Measured::forecast_of(const PolicySpec& spec, ForecastDetail detail, Forecast* out) const {
  std::shared_ptr<const Policy> policy;
  RC_TRY(create_policy(spec, &policy));
  return forecast(*log, profile.get(), flags, std::move(policy), detail, out);
}

Status find_ways(const Measured& measured, Ways* out) {
  return Finder(measured, out).run();
}

LayerPath Ways::path() const {
  LayerPath path;
  path.held = held;
  path.ways.resize(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const Way& w : groups[g].ways)
      path.ways[g].push_back({1, -w.freed, groups[g].base_transient + w.added, w.cost});
    for (const Way& w : groups[g].units) {
      int64_t base = 0;
      for (size_t i = 0; i < w.layers; ++i) base = std::max(base, groups[g + i].base_transient);
      path.ways[g].push_back({w.layers, -w.freed, base + w.added, w.cost});
    }
  }
  return path;
}

RowPath Ways::rows() const {
  RowPath rows = row_frame;
  rows.path.ways.resize(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const Way& w : groups[g].ways) rows.path.ways[g].push_back({1, -w.freed, w.added, w.cost});
    for (const Way& w : groups[g].units)
      rows.path.ways[g].push_back({w.layers, -w.freed, w.added, w.cost});
  }
  return rows;
}

const Way& Ways::way_of(const PathStep& step) const {
  const Group& g = groups[step.place];
  return step.way < g.ways.size() ? g.ways[step.way] : g.units[step.way - g.ways.size()];
}

}  // namespace rc::budget
