// src/plan/check.cc: see check.h.
#include "src/plan/check.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "src/plan/unit_stage.h"

namespace rc {
namespace {

struct Totals {
  int64_t kept = 0, link = 0, cost = 0, always = 0;
  std::map<int32_t, int64_t> at_moment;
};

class Checker {
 public:
  Checker(const PlanStage& stage, const StagePlan& plan) : stage_(stage), plan_(plan) {}

  bool run(std::string* finding) {
    const bool good = shape() && cuts() && choices() && figures();
    *finding = finding_;
    return good;
  }

 private:
  bool fail(const std::string& what) {
    finding_ = what;
    return false;
  }
  const PlanItem& item(size_t chunk, size_t layer, size_t i) const {
    return stage_.classes[size_t(stage_.chunks[chunk].layers[layer])].items[i];
  }
  static std::string place(size_t chunk, size_t layer, size_t i) {
    return "chunk " + std::to_string(chunk) + " layer " + std::to_string(layer) + " item " +
           std::to_string(i);
  }

  bool shape() {
    if (plan_.choice.size() != stage_.chunks.size()) return fail("choices of another stage");
    for (size_t c = 0; c < plan_.choice.size(); ++c) {
      if (plan_.choice[c].size() != stage_.chunks[c].layers.size()) {
        return fail("chunk " + std::to_string(c) + " has another number of layers");
      }
      for (size_t l = 0; l < plan_.choice[c].size(); ++l) {
        const size_t items = stage_.classes[size_t(stage_.chunks[c].layers[l])].items.size();
        if (plan_.choice[c][l].size() != items) return fail(place(c, l, items) + " does not match");
        for (size_t i = 0; i < items; ++i) {
          if (plan_.choice[c][l][i] >= item(c, l, i).choices.size()) {
            return fail(place(c, l, i) + " has no such choice");
          }
        }
      }
    }
    return true;
  }

  bool cuts() {
    int to_host = 0, to_replay = 0;
    for (const PlanCut& cut : plan_.cuts) {
      const auto key = std::make_tuple(cut.chunk, cut.layer, cut.item);
      if (cut.chunk < 0 || size_t(cut.chunk) >= plan_.choice.size() || cut.layer < 0 ||
          size_t(cut.layer) >= plan_.choice[size_t(cut.chunk)].size() || cut.item < 0 ||
          size_t(cut.item) >= plan_.choice[size_t(cut.chunk)][size_t(cut.layer)].size()) {
        return fail("a cut of an item that does not exist");
      }
      const std::string where = place(size_t(cut.chunk), size_t(cut.layer), size_t(cut.item));
      const PlanItem& it = item(size_t(cut.chunk), size_t(cut.layer), size_t(cut.item));
      if (!cut_at_.emplace(key, &cut).second) return fail(where + " is cut twice");
      if (cut.kept_rows < 0 || cut.offloaded_rows < 0 || cut.recomputed_rows < 0 ||
          cut.kept_rows + cut.offloaded_rows + cut.recomputed_rows != it.rows) {
        return fail(where + ": the rows of the cut do not add up");
      }
      if (chosen(size_t(cut.chunk), size_t(cut.layer), size_t(cut.item)).option !=
          PlanOption::kKeep) {
        return fail(where + " is cut but not kept");
      }
      if (cut.offloaded_rows > 0 && !it.cut_offload) return fail(where + " may not be cut so");
      if (cut.recomputed_rows > 0 && !it.cut_recompute) return fail(where + " may not be cut so");
      if (cut.offloaded_rows > 0 && cut.recomputed_rows > 0) {
        return fail(where + " is cut in three");
      }
      to_host += cut.offloaded_rows > 0;
      to_replay += cut.recomputed_rows > 0;
    }
    return to_host <= 1 && to_replay <= 1 ? true : fail("more than one cut of a kind");
  }

  const PlanChoice& chosen(size_t c, size_t l, size_t i) const {
    return item(c, l, i).choices[plan_.choice[c][l][i]];
  }

  bool may_move(size_t c, size_t l, int64_t bytes) const {
    const bool tail = c + 1 == stage_.chunks.size() &&
                      int64_t(l) + stage_.tail_margin >= int64_t(stage_.chunks[c].layers.size());
    return !tail && bytes >= stage_.min_offload_bytes;
  }

  bool choices() {
    for (size_t c = 0; c < plan_.choice.size(); ++c) {
      totals_.emplace_back();
      for (size_t l = 0; l < plan_.choice[c].size(); ++l) {
        Totals sum;
        for (size_t i = 0; i < plan_.choice[c][l].size(); ++i) {
          if (!add_item(c, l, i, sum)) return false;
        }
        totals_.back().push_back(sum);
      }
    }
    return true;
  }

  bool add_item(size_t c, size_t l, size_t i, Totals& sum) {
    const PlanItem& it = item(c, l, i);
    const auto cut = cut_at_.find(std::make_tuple(int32_t(c), int32_t(l), int32_t(i)));
    if (cut == cut_at_.end()) return add_part(c, l, i, &chosen(c, l, i), 1, 1, sum);
    const PlanCut& part = *cut->second;
    return add_part(c, l, i, it.find(PlanOption::kKeep), part.kept_rows, it.rows, sum) &&
           add_part(c, l, i, it.find(PlanOption::kOffload), part.offloaded_rows, it.rows, sum) &&
           add_part(c, l, i, it.find(PlanOption::kRecompute), part.recomputed_rows, it.rows, sum);
  }

  bool add_part(size_t c, size_t l, size_t i, const PlanChoice* choice, int64_t rows, int64_t of,
                Totals& sum) {
    if (rows == 0) return true;
    if (choice == nullptr) return fail(place(c, l, i) + ": a cut for an option it does not have");
    const int64_t link = choice->link_bytes / of * rows;
    if (link > 0 && !may_move(c, l, link)) return fail(place(c, l, i) + " may not be offloaded");
    sum.kept += choice->kept_bytes / of * rows;
    sum.link += link;
    // Costs of parts are rounded up.
    const __int128 cost = __int128(choice->cost) * rows;
    sum.cost += int64_t(cost / of + (cost % of != 0));
    const int64_t transient = choice->transient_bytes / of * rows;
    if (item(c, l, i).moment < 0) {
      sum.always += transient;
    } else {
      sum.at_moment[item(c, l, i).moment] += transient;
    }
    return true;
  }

  bool equal(const char* what, int64_t mine, int64_t claimed) {
    if (mine == claimed) return true;
    return fail(std::string(what) + " is " + std::to_string(mine) + ", the certificate says " +
                std::to_string(claimed));
  }
  bool within(const char* what, int64_t value, int64_t limit) {
    if (value <= limit) return true;
    return fail(std::string(what) + " is " + std::to_string(value) + ", the limit " +
                std::to_string(limit));
  }

  bool figures() {
    const PlanCertificate& claim = plan_.certificate;
    int64_t cost = 0, link = 0, host = 0, peak = 0;
    std::vector<int64_t> kept(totals_.size(), 0), moved(totals_.size(), 0);
    for (size_t c = 0; c < totals_.size(); ++c) {
      for (const Totals& sum : totals_[c]) {
        cost += sum.cost;
        kept[c] += sum.kept;
        moved[c] += sum.link;
      }
      link += moved[c];
    }
    std::vector<std::vector<int64_t>> layer_peak(totals_.size());
    for (size_t c = 0; c < totals_.size(); ++c) layer_peak[c].assign(totals_[c].size(), 0);
    for (const PlanState& state : stage_.states) {
      int64_t others = stage_.fixed_bytes, on_host = 0, own = 0;
      const size_t mine = size_t(state.chunk);
      for (size_t c = 0; c < kept.size(); ++c) {
        others += kept[c] * (state.held[c] - (c == mine ? 1 : 0));
        on_host += moved[c] * state.held[c];
      }
      host = std::max(host, on_host);
      for (size_t l = 0; l < totals_[mine].size(); ++l) {
        own += totals_[mine][l].kept;
        int64_t& most = layer_peak[mine][l];
        most = std::max(most, others + own + most_transient(mine, l));
        peak = std::max(peak, most);
      }
    }
    if (claim.layer_peak != layer_peak) return fail("the peaks of the layers differ");
    if (claim.kept != kept) return fail("the kept bytes of the chunks differ");
    return equal("cost", cost, claim.objective) && equal("peak", peak, claim.peak) &&
           equal("link", link, claim.link) && equal("host", host, claim.host) &&
           within("peak", peak, stage_.budget) && within("link", link, stage_.link_bytes) &&
           (stage_.host_bytes < 0 || within("host", host, stage_.host_bytes)) &&
           within("lower bound", claim.lower_bound, cost) &&
           (claim.optimal == (claim.lower_bound == cost) || fail("optimal does not match"));
  }

  int64_t most_transient(size_t c, size_t l) const {
    const PlanLayerClass& k = stage_.classes[size_t(stage_.chunks[c].layers[l])];
    int64_t most = 0;
    for (size_t m = 0; m < k.moments.size(); ++m) {
      const auto extra = totals_[c][l].at_moment.find(int32_t(m));
      const int64_t then = extra == totals_[c][l].at_moment.end() ? 0 : extra->second;
      most = std::max(most, k.moments[m] + totals_[c][l].always + then);
    }
    return most;
  }

  const PlanStage& stage_;
  const StagePlan& plan_;
  std::map<std::tuple<int32_t, int32_t, int32_t>, const PlanCut*> cut_at_;
  std::vector<std::vector<Totals>> totals_;
  std::string finding_;
};

// In order, apart, inside their chunks, of layers that have inputs, and cutting nothing.
bool units_are_well_formed(const PlanStage& stage, const StagePlan& plan, std::string* finding) {
  *finding = "ill-formed units";
  if (!plan.cuts.empty() || plan.choice.size() != stage.chunks.size()) return false;
  int32_t chunk = 0, end = 0;
  for (const PlanUnit& unit : plan.units) {
    if (unit.chunk < chunk || size_t(unit.chunk) >= stage.chunks.size()) return false;
    if (unit.chunk > chunk) end = 0;
    chunk = unit.chunk;
    const std::vector<int32_t>& layers = stage.chunks[size_t(chunk)].layers;
    if (unit.layers < 2 || unit.first < end) return false;
    if (int64_t(unit.first) + unit.layers > int64_t(layers.size())) return false;
    if (plan.choice[size_t(chunk)].size() != layers.size()) return false;
    end = unit.first + unit.layers;
    for (int32_t l = unit.first; l < end; ++l) {
      const PlanLayerClass& k = stage.classes[size_t(layers[size_t(l)])];
      const std::vector<uint8_t>& own = plan.choice[size_t(chunk)][size_t(l)];
      if (!may_be_in_unit(k) || own.size() != k.items.size()) return false;
      const PlanItem& input = k.items[size_t(k.input_item)];
      if (own[size_t(k.input_item)] >= input.choices.size()) return false;
      const PlanOption head = input.choices[own[size_t(k.input_item)]].option;
      if (l == unit.first && head == PlanOption::kRecompute) return false;
    }
  }
  finding->clear();
  return true;
}

}  // namespace

PlanCheck check_plan(const PlanStage& stage, const StagePlan& plan, size_t partial_plans) {
  PlanCheck check;
  if (plan.verdict != PlanVerdict::kSolved) {
    check.finding = "there is no plan";
    return check;
  }
  if (!plan.units.empty()) {
    check.fits = units_are_well_formed(stage, plan, &check.finding);
    if (!check.fits) return check;
    const UnitView view = expand_units(stage, plan);
    check.fits = Checker(view.stage, view.plan).run(&check.finding);
    check.bound_proven =
        check.fits && prove_bound_of_units(stage, plan, plan.certificate.lower_bound, partial_plans,
                                           &check.finding);
    return check;
  }
  check.fits = Checker(stage, plan).run(&check.finding);
  if (!check.fits) return check;
  check.bound_proven =
      prove_bound(stage, plan, plan.certificate.lower_bound, partial_plans, &check.finding);
  return check;
}

}  // namespace rc
