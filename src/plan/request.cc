// src/plan/request.cc: the root of a request, and the classes of a model under it.
#include "src/plan/request.h"

#include <algorithm>
#include <cmath>

#include "src/plan/object_reader.h"
#include "src/plan/request_model.h"
#include "src/policy/json_text.h"
#include "src/policy/json_values.h"

namespace rc::plan {
namespace {

using nlohmann::json;

Status read_options(ObjectReader* r, PlanRequest* out) {
  const json* list = r->find("options");
  if (list == nullptr) return ok_status();
  std::vector<std::string> names;
  RC_TRY(read_names(*list, r->pointer("options"), &names));
  static const std::vector<std::string_view> known = {"keep", "recompute", "offload", "split",
                                                      "compress"};
  out->allowed = {true, false, false, false, false};
  for (size_t i = 0; i < names.size(); ++i) {
    std::string name;
    RC_TRY(read_choice(names[i], r->pointer("options") + format("/%zu", i), known, "", &name));
    out->allowed[size_t(std::find(known.begin(), known.end(), name) - known.begin())] = true;
  }
  return ok_status();
}

Status read_budget(ObjectReader* r, PlanRequest* out) {
  r->read("budget_fraction", &out->budget_fraction);
  const json* value = r->find("budget_bytes");
  const bool fraction = r->find("budget_fraction") != nullptr;
  r->read("memory_bytes", &out->memory_bytes);
  if (out->memory_bytes > 0 && (fraction || value != nullptr || out->measured)) {
    return argument_error(r->pointer("memory_bytes"),
                          "goes with a model, and without budget_bytes and budget_fraction");
  }
  if (fraction && !(out->budget_fraction > 0 && out->budget_fraction <= 1)) {
    return argument_error(r->pointer("budget_fraction"),
                          format("%g, must be above 0 and at most 1", out->budget_fraction));
  }
  if (value == nullptr) return ok_status();
  const std::string at = r->pointer("budget_bytes");
  if (fraction) return argument_error(at, "set beside budget_fraction; one of them says it");
  const json list = value->is_array() ? *value : json::array({*value});
  RC_TRY(check_array(list, at));
  for (size_t i = 0; i < list.size(); ++i) {
    uint64_t bytes = 0;
    RC_TRY(read_count(list[i], value->is_array() ? at + format("/%zu", i) : at, 0,
                      uint64_t{1} << 60, &bytes));
    out->budget_bytes.push_back(bytes);
  }
  if (out->budget_bytes.size() != 1 && out->budget_bytes.size() != out->layout.pp) {
    return argument_error(at, format("%zu entries, must be one, or one for each of %u ranks",
                                     out->budget_bytes.size(), out->layout.pp));
  }
  return ok_status();
}

Status read_limits(ObjectReader* r, PlanRequest* out) {
  r->read("token_split", &out->token_split);
  r->read("units", &out->units);
  r->read("gradient_workspace", &out->gradient_workspace);
  r->read("workspace_bytes", &out->workspace_bytes);
  r->read("host_bytes", &out->host_bytes);
  r->read("min_offload_bytes", &out->min_offload_bytes);
  r->read("tail_margin", &out->tail_margin);
  r->read("fused_norm", &out->fused_norm);
  r->read("move_boundaries", &out->move_boundaries);
  if (out->move_boundaries && (out->layout.pp == 1 || out->layout.vpp > 1)) {
    return argument_error(r->pointer("move_boundaries"),
                          "true, needs a pipeline of more than one rank with one chunk each");
  }
  r->read("compare", &out->compare);
  if (out->compare && out->measured)
    return argument_error(r->pointer("compare"), "true, but the tensors are those of a host");
  r->read("time_limit_seconds", &out->time_limit);
  if (!(out->time_limit > 0 && out->time_limit <= 3600)) {
    return argument_error(r->pointer("time_limit_seconds"),
                          format("%g, must be above 0 and at most 3600", out->time_limit));
  }
  return ok_status();
}

Status read_subject(ObjectReader* r, PlanRequest* out) {
  const json* model = r->find("model");
  const json* inventory = r->find("inventory");
  if ((model == nullptr) == (inventory == nullptr)) {
    return argument_error(model ? "/inventory" : "/model",
                          model ? "set beside model; one of them says what is saved"
                                : "missing, and so is inventory");
  }
  if (model != nullptr) return read_model(*model, &out->model);
  out->gradient_workspace = out->units = false;
  return read_inventory(*inventory, out);
}

}  // namespace

Status read_request(std::string_view text, PlanRequest* out) {
  json root;
  RC_TRY(parse_json(text, &root));
  ObjectReader r(root, "");
  const json* version = r.find("rcore_plan");
  if (r.failed()) return r.finish();
  if (version == nullptr) return argument_error("/rcore_plan", "missing, must be 1");
  if (!version->is_number_integer() || *version != 1) {
    return argument_error("/rcore_plan",
                          format("%s, this library reads version 1", show(*version).c_str()));
  }
  *out = PlanRequest();
  RC_TRY(read_subject(&r, out));
  if (const json* layout = r.find("layout")) RC_TRY(read_layout(*layout, &out->layout));
  find_device("h100", &out->device);
  if (const json* hardware = r.find("hardware")) RC_TRY(read_hardware(*hardware, &out->device));
  RC_TRY(read_options(&r, out));
  RC_TRY(read_budget(&r, out));
  RC_TRY(read_limits(&r, out));
  RC_TRY(r.finish());
  if (out->measured) {
    out->layout.seq = std::max(out->layout.seq, 1u);
    return below("layout", make_stages(out->layout, out->model, &out->stages));
  }
  RC_TRY(below("layout", check(out->layout, out->model)));
  RC_TRY(below("layout", make_stages(out->layout, out->model, &out->stages)));
  make_classes(out);
  return ok_status();
}

namespace {

// Weights and their gradients in 16 and 32 bits, and two moments and a main copy in 32 bits spread
// over the data-parallel group (a distributed optimizer): 6 + 12 / dp bytes a parameter.
uint64_t state_bytes(const PlanRequest& r, bool moe) {
  const Layout& l = r.layout;
  const uint64_t experts = moe ? expert_parameters(r.model) : 0;
  const double rest = double(layer_parameters(r.model, moe) - experts) / l.tp;
  const double routed = double(experts) / l.ep / l.expert_tp();
  const double expert_dp = std::max(1.0, double(l.dp) * l.cp * l.tp / l.ep / l.expert_tp());
  return uint64_t(rest * (6 + 12.0 / (double(l.dp) * l.cp)) + routed * (6 + 12 / expert_dp));
}

ClassSpec make_class(const PlanRequest& r, bool moe) {
  const LayerInventory layer = make_inventory(r.model, r.layout, moe);
  const bool fp8 = r.layout.fp8 != RC_FP8_OFF;
  ClassSpec c;
  c.name = moe ? "moe" : "dense";
  for (const SavedTensor& t : layer.tensors) {
    if (t.statistic && !t.owner.empty()) {
      for (TensorSpec& owner : c.tensors) {
        if (owner.tensor.name != t.owner) continue;
        owner.tensor.bytes += t.bytes;
        owner.statistics.push_back(t);
      }
      continue;
    }
    c.tensors.push_back({.tensor = t, .recompute_seconds = seconds(t.regenerate, r.device, fp8)});
  }
  c.tails = layer.tails;
  for (const Tail& tail : c.tails) c.tail_seconds += seconds(tail.work, r.device, fp8);
  c.forward_seconds = seconds(layer.forward(), r.device, fp8);
  c.backward_seconds = 2 * c.forward_seconds;
  c.published_bytes = layer.published_bytes();
  c.gradient_bytes = layer.gradient_bytes;
  c.state_bytes = state_bytes(r, moe);
  if (r.gradient_workspace) c.moments = {static_cast<int64_t>(layer.gradient_bytes)};
  return c;
}

}  // namespace

void make_classes(PlanRequest* r) {
  r->classes.clear();
  int32_t dense = -1, moe = -1;
  auto add = [r](bool is_moe) {
    r->classes.push_back(make_class(*r, is_moe));
    return static_cast<int32_t>(r->classes.size()) - 1;
  };
  if (r->model.any_dense()) dense = add(false);
  if (r->model.any_moe()) moe = add(true);
  r->layer_class.clear();
  for (uint32_t l = 0; l < r->model.num_layers; ++l)
    r->layer_class.push_back(r->model.is_moe(l) ? moe : dense);
  r->kinds = {{"attn_dropout", false},
              {"mlp_dropout", false},
              {"mlp_act", true},
              {"mla_down_proj", true},
              {"mla_norm", true}};
}

}  // namespace rc::plan
