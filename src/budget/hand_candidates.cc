// src/budget/hand_candidates.cc: the settings that a user would try by hand, forecast.
#include <algorithm>
#include <set>

#include "src/budget/measured_plan.h"

namespace rc::budget {
namespace {

constexpr size_t kMostKinds = 6;       // sets of modules: 2^6
constexpr uint32_t kEveryLength = 16;  // uniform and block beyond it: in larger strides

class Hand {
 public:
  Hand(const Measured& measured, std::vector<Candidate>* out) : m_(measured), out_(out) {}

  // Settings that a rule refuses, or that there is no time for, are left out.
  Status add(std::string name, const PolicySpec& spec) {
    if (m_.late()) return ok_status();
    Forecast f;
    Status status = m_.forecast_of(spec, ForecastDetail::kFigures, &f);
    if (status.code() == RC_E_ARGUMENT) return ok_status();
    RC_TRY(std::move(status));
    out_->push_back({std::move(name), spec, f.peak_bytes, f.replay_ns, f.replays});
    return ok_status();
  }

  Status add_full(rc_method method, uint32_t layers) {
    PolicySpec spec = m_.base;
    spec.granularity = RC_GRANULARITY_FULL;
    spec.method = method;
    spec.recompute_num_layers = layers;
    return add(format("%s %u", method == RC_METHOD_UNIFORM ? "uniform" : "block", layers), spec);
  }

 private:
  const Measured& m_;
  std::vector<Candidate>* out_;
};

}  // namespace

Status hand_candidates(const Measured& measured, const Ways& ways, std::vector<Candidate>* out) {
  Hand hand(measured, out);
  RC_TRY(hand.add("none", measured.base));
  std::set<std::string> useful;
  uint32_t layers = 0;
  for (const Group& g : ways.groups) {
    layers += g.has_whole;
    if (!g.is_layer) continue;
    for (const Way& way : g.ways)
      for (const Again& again : way.again) useful.insert(again.kind);
  }
  for (uint32_t n = 1; n <= layers; n += n < kEveryLength ? 1 : n / 4) {
    RC_TRY(hand.add_full(RC_METHOD_UNIFORM, n));
    RC_TRY(hand.add_full(RC_METHOD_BLOCK, n));
  }
  if (layers > kEveryLength) RC_TRY(hand.add_full(RC_METHOD_UNIFORM, layers));
  const std::vector<std::string> kinds(useful.begin(), useful.end());
  const size_t n = std::min(kinds.size(), kMostKinds);
  for (size_t set = 1; set < size_t{1} << n; ++set) {
    PolicySpec spec = measured.base;
    std::string name;
    for (size_t k = 0; k < n; ++k) {
      if (!((set >> k) & 1)) continue;
      name += (name.empty() ? "" : "+") + kinds[k];
      RuleSpec rule;
      rule.kind = kinds[k];
      rule.action = RC_ACTION_RECOMPUTE;
      spec.rules.push_back(rule);
    }
    RC_TRY(hand.add(name, spec));
  }
  return ok_status();
}

}  // namespace rc::budget
