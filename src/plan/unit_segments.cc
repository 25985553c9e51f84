// src/plan/unit_segments.cc: see unit_segments.h.
#include "src/plan/unit_segments.h"

#include <algorithm>
#include <cstddef>

#include "src/plan/counts.h"
#include "src/plan/unit_stage.h"

namespace rc {
namespace {

// A layer's way with its moments still apart.
struct Way {
  UnitSegment segment;
  std::vector<int64_t> moments;
};

bool no_worse(const Way& a, const Way& b) {
  const UnitSegment &x = a.segment, &y = b.segment;
  if (x.kept > y.kept || x.link > y.link || x.cost > y.cost) return false;
  for (size_t m = 0; m < a.moments.size(); ++m) {
    if (x.kept + a.moments[m] > y.kept + b.moments[m]) return false;
  }
  return true;
}

std::vector<Way> without_beaten(std::vector<Way> all) {
  std::sort(all.begin(), all.end(), [](const Way& a, const Way& b) {
    return a.segment.kept != b.segment.kept ? a.segment.kept < b.segment.kept
                                            : a.segment.cost < b.segment.cost;
  });
  std::vector<Way> left;
  for (Way& way : all) {
    const auto beats = [&](const Way& other) { return no_worse(other, way); };
    if (std::none_of(left.begin(), left.end(), beats)) left.push_back(std::move(way));
  }
  return left;
}

}  // namespace

UnitSegments::UnitSegments(const PlanStage& stage, int64_t room, bool free)
    : stage_(stage), room_(room), free_(free) {
  std::map<std::vector<int32_t>, size_t> known;
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    const std::vector<int32_t>& layers = stage.chunks[c].layers;
    places_.emplace_back();
    for (size_t l = 0; l < layers.size(); ++l) {
      const bool last = c + 1 == stage.chunks.size();
      const bool may_move = !last || int64_t(l) + stage.tail_margin < int64_t(layers.size());
      std::vector<int32_t> key(layers.begin() + int64_t(l), layers.end());
      key.push_back(may_move);
      const auto [at, added] = known.emplace(std::move(key), segments_.size());
      places_.back().push_back(at->second);
      if (!added) continue;
      segments_.push_back(ways(stage.classes[size_t(layers[l])], may_move));
      add_units(c, l, &segments_.back());
    }
  }
}

std::vector<UnitSegment> UnitSegments::ways(const PlanLayerClass& k, bool may_move) const {
  std::vector<Way> all = {{{}, k.moments}};
  for (size_t i = 0; i < k.items.size(); ++i) {
    const PlanItem& item = k.items[i];
    const bool recomputable = choice_of(item, PlanOption::kRecompute) >= 0;
    std::vector<Way> next;
    for (const Way& way : all) {
      for (size_t c = 0; c < item.choices.size(); ++c) {
        const PlanChoice& choice = item.choices[c];
        const bool moves = choice.link_bytes > 0;
        if (moves && (recomputable || !may_move || choice.link_bytes < stage_.min_offload_bytes))
          continue;
        Way more = way;
        UnitSegment& s = more.segment;
        s.choice.push_back(uint8_t(c));
        s.kept += choice.kept_bytes;
        s.link += choice.link_bytes;
        s.cost += free_ ? 0 : choice.cost;
        for (size_t m = 0; m < more.moments.size(); ++m) {
          if (item.moment == kEveryMoment || size_t(item.moment) == m) {
            more.moments[m] += choice.transient_bytes;
          }
        }
        next.push_back(std::move(more));
      }
    }
    all = without_beaten(std::move(next));
  }
  std::vector<UnitSegment> out;
  for (Way& way : all) {
    way.segment.last_wide = *std::max_element(way.moments.begin(), way.moments.end());
    way.segment.top = way.segment.kept + way.segment.last_wide;
    if (way.segment.top <= room_) out.push_back(std::move(way.segment));
  }
  return out;
}

void UnitSegments::add_units(size_t chunk, size_t layer, std::vector<UnitSegment>* out) const {
  const std::vector<int32_t>& layers = stage_.chunks[chunk].layers;
  const PlanLayerClass& head = stage_.classes[size_t(layers[layer])];
  if (!may_be_in_unit(head)) return;
  const PlanItem& input = head.items[size_t(head.input_item)];
  const bool last_chunk = chunk + 1 == stage_.chunks.size();
  const bool may_move = !last_chunk || int64_t(layer) + stage_.tail_margin < int64_t(layers.size());
  for (size_t c = 0; c < input.choices.size(); ++c) {
    const PlanChoice& from = input.choices[c];
    if (from.link_bytes > 0 && (!may_move || from.link_bytes < stage_.min_offload_bytes)) continue;
    if (from.option == PlanOption::kRecompute) continue;
    UnitSegment unit;
    unit.choice.assign(head.items.size(), 0);
    unit.choice[size_t(head.input_item)] = uint8_t(c);
    unit.kept = from.kept_bytes;
    unit.link = from.link_bytes;
    int64_t cost = from.cost, back = from.transient_bytes;
    for (size_t l = layer; l < layers.size(); ++l) {
      const PlanLayerClass& k = stage_.classes[size_t(layers[l])];
      if (!may_be_in_unit(k)) break;
      if (l > layer)
        back += k.items[size_t(k.input_item)]
                    .choices[size_t(choice_of(k.items[size_t(k.input_item)], PlanOption::kKeep))]
                    .kept_bytes;
      back += regenerated_bytes(k);
      for (const PlanItem& item : k.items) {
        if (!item.pinned) continue;
        unit.kept +=
            item.choices[size_t(std::max(0, choice_of(item, PlanOption::kKeep)))].kept_bytes;
      }
      unit.layers = int32_t(l - layer) + 1;
      unit.last_wide = back + *std::max_element(k.moments.begin(), k.moments.end());
      unit.top = std::max(unit.top, unit.kept + unit.last_wide);
      unit.cost = free_ ? 0 : cost + rerun_cost(k, false);
      cost += rerun_cost(k, true);
      if (unit.top > room_) break;
      if (unit.layers > 1) out->push_back(unit);
    }
  }
}

}  // namespace rc
