// src/plan/check_shared_rows.cc: a stage as check_shared.h sees it: kinds of tensors under one
// memory row or two.
#include <algorithm>
#include <cstddef>
#include <numeric>

#include "src/plan/check_shared.h"

namespace rc {
namespace {

constexpr int64_t kScale = int64_t{1} << 20;  // of PlanBoundRow::price

}  // namespace

int64_t SharedProof::use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
                         const PlanChoice& choice) const {
  const PlanState& state = stage_.states[size_t(row.state)];
  const bool own_chunk = size_t(state.chunk) == c;
  const int64_t times = state.held[c] - (own_chunk && l > size_t(row.layer) ? 1 : 0);
  const bool now =
      own_chunk && l == size_t(row.layer) && (item.moment < 0 || item.moment == row.moment);
  return times * choice.kept_bytes + (now ? choice.transient_bytes : 0);
}

// One price per byte for all that may be offloaded.
bool SharedProof::set_price(const PlanItem& item, const PlanChoice& moved, const PlanChoice& kept) {
  if (moved.kept_bytes != 0 || moved.link_bytes != kept.kept_bytes || moved.cost < kept.cost)
    return false;
  const int64_t more = moved.cost - kept.cost;
  if (more > 0 && item.cut_offload && item.rows > 1) return false;
  if (per_ == 0) {
    const int64_t common = std::max<int64_t>(1, std::gcd(more, moved.link_bytes));
    price_ = more / common;
    per_ = moved.link_bytes / common;
  }
  return ProofWide(more) * per_ == ProofWide(price_) * moved.link_bytes;
}

// Which of the two a tensor is in the second row, less what it takes there anyway.
bool SharedProof::set_late(size_t c, size_t l, const PlanItem& item, bool moves, ProofKind& kind) {
  if (inner_ == nullptr) return true;
  bool early = true, late = true, any = false;
  int64_t more = 0, fixed = 0;
  for (const PlanChoice& choice : item.choices) {
    if (choice.option == PlanOption::kOffload && !moves) continue;
    const int64_t outer = use(c, l, item, choice), inner = use(*inner_, c, l, item, choice);
    if (!any) more = inner - outer, fixed = inner;
    any = true;
    early = early && inner - outer == more;
    late = late && inner == fixed;
    // ProofParts of it likewise.
    if (item.rows > 1 && (outer % item.rows != 0 || inner % item.rows != 0)) return false;
  }
  kind.late = !early;
  inner_room_ -= early ? more : fixed;
  return early || late;
}

bool SharedProof::add_item(size_t c, size_t l, const PlanItem& item) {
  ProofKind kind;
  const PlanChoice *kept = item.find(PlanOption::kKeep), *moved = item.find(PlanOption::kOffload);
  const int64_t layers = int64_t(stage_.chunks[c].layers.size());
  const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
  if (!set_late(c, l, item, !tail, kind)) return false;
  if (kept != nullptr) kind.ways.push_back({use(c, l, item, *kept), kept->cost});
  if (moved != nullptr && moved->link_bytes > 0 && moved->link_bytes >= stage_.min_offload_bytes) {
    if (kept == nullptr || !set_price(item, *moved, *kept)) return false;
    const int64_t freed = kind.ways[0].weight - use(c, l, item, *moved);
    // Where it frees nothing, keeping it is no worse.
    if (!tail && freed > 0) {
      if (freed % moved->link_bytes != 0) return false;
      if (factor_ == 0) factor_ = freed / moved->link_bytes;
      if (freed != factor_ * moved->link_bytes || freed > kind.ways[0].weight) return false;
      kind.link = moved->link_bytes;
      if (item.cut_offload) kind.rows = item.rows;
      jump_ = jump_ == 0 ? freed : std::min(jump_, freed);
    }
  }
  for (const PlanChoice& choice : item.choices) {
    if (&choice == kept || choice.link_bytes > 0) continue;
    if (choice.option == PlanOption::kOffload) return false;
    if (choice.option == PlanOption::kRecompute && kept != nullptr && item.cut_recompute &&
        item.rows > 1) {
      kind.cut_rows = item.rows;
      kind.replay = kind.ways.size();
    }
    kind.ways.push_back({use(c, l, item, choice), choice.cost});
  }
  ++all_[kind];
  return !kind.ways.empty();
}

// Sums of ways are what they share apart, so that room between two such sums is none.
int64_t SharedProof::rounded(int64_t room, bool late) const {
  int64_t all = 0, base = 0;
  for (const auto& [kind, count] : all_) {
    if (kind.late && !late) continue;
    base += kind.ways[0].weight * count;
    for (const ProofWay& way : kind.ways) all = std::gcd(all, way.weight - kind.ways[0].weight);
    if (kind.cut_rows > 0) {
      all = std::gcd(all, kind.ways[0].weight / kind.cut_rows);
      all = std::gcd(all, kind.ways[kind.replay].weight / kind.cut_rows);
    }
    all = std::gcd(all, factor_ * (kind.link / kind.rows));
  }
  const int64_t spare = room - base;
  return all > 0 ? room - (spare % all + all) % all : room;
}

void SharedProof::round_room() {
  memory_ = rounded(memory_, true);
  inner_room_ = rounded(inner_room_, false);
  int64_t link = 0;
  for (const auto& [kind, count] : all_) link = std::gcd(link, kind.link / kind.rows);
  if (link > 0) link_ -= link_ % link;
}

bool SharedProof::is_row(const PlanBoundRow& row) const {
  if (row.kind != PlanBoundRow::kMemoryAndLink || row.price < 0) return false;
  if (row.state < 0 || size_t(row.state) >= stage_.states.size()) return false;
  const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
  if (row.layer < 0 || size_t(row.layer) >= chunk.layers.size()) return false;
  const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
  return row.moment >= 0 && size_t(row.moment) < own.moments.size();
}

int64_t SharedProof::room_of(const PlanBoundRow& row) const {
  const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
  const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
  return stage_.budget - stage_.fixed_bytes - own.moments[size_t(row.moment)];
}

bool SharedProof::prepare() {
  if (!is_row(row_) || (inner_ != nullptr && !is_row(*inner_))) return false;
  if (held_row_ != nullptr && held_row_->price < 0) return false;
  if (stage_.host_bytes >= 0 && stage_.chunks.size() > 1) return false;
  memory_ = room_of(row_);
  inner_room_ = inner_ != nullptr ? room_of(*inner_) : 0;
  for (size_t c = 0; c < stage_.chunks.size(); ++c)
    for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l)
      for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items)
        if (!add_item(c, l, item)) return false;
  if (factor_ == 0) return false;
  link_ = stage_.link_bytes;
  for (const PlanState& state : stage_.states)
    if (stage_.host_bytes >= 0) link_ = std::min(link_, stage_.host_bytes / state.held[0]);
  int64_t movable = 0;
  for (const auto& [kind, count] : all_) movable += kind.link * count;
  link_ = std::min(link_, movable);
  round_room();
  scale_ = ProofWide(per_) * factor_ * kScale;
  slope_ = ProofWide(price_) * kScale;
  const auto priced = [&](const PlanBoundRow* row) {
    return row != nullptr ? ProofWide(row->price) * per_ * factor_ : 0;
  };
  ProofSide side;
  side.late_lambda = priced(&row_);
  side.lambda = side.late_lambda + priced(inner_);
  const ProofWide moved = std::max<ProofWide>(0, side.lambda - slope_) * factor_ * link_;
  std::vector<ProofWide> prices = {0};
  if (held_row_ != nullptr) prices.push_back(priced(held_row_));
  for (const ProofWide held : prices) {
    side.held = held;
    side.worth = (side.lambda + held) * memory_ + moved;
    sides_.push_back(side);
  }
  return true;
}

}  // namespace rc
