// src/plan/request_inventory.cc: measured tensors, the member `inventory` of a request.
#include <algorithm>

#include "src/plan/object_reader.h"
#include "src/plan/request_model.h"
#include "src/policy/json_values.h"
#include "src/policy/policy.h"

namespace rc::plan {
namespace {

using nlohmann::json;

Status read_seconds(ObjectReader* r, const char* key, double* out) {
  r->read(key, out);
  if (*out >= 0 && *out < 1e6) return ok_status();
  return argument_error(r->pointer(key), format("%g, must be between 0 and 1e6", *out));
}

Status read_slots(ObjectReader* r, const SavedTensor& owner, std::vector<SavedTensor>* out) {
  const json* list = r->find("with");
  if (list == nullptr) return ok_status();
  const std::string at = r->pointer("with");
  RC_TRY(check_array(*list, at));
  for (size_t i = 0; i < list->size(); ++i) {
    ObjectReader one((*list)[i], at + format("/%zu", i));
    SavedTensor t;
    t.kind = owner.kind;
    t.role = RC_ROLE_SAVED;
    one.read("kind", &t.kind);
    one.read("slot", &t.slot);
    int role = t.role;
    one.choose("role", {"any", "input", "saved", "output"}, &role);
    t.role = static_cast<rc_role>(role);
    RC_TRY(one.finish());
    out->push_back(std::move(t));
  }
  return ok_status();
}

Status read_tensor(const json& value, const std::string& at, size_t moments, TensorSpec* out) {
  ObjectReader r(value, at);
  SavedTensor& t = out->tensor;
  r.read("name", &t.name);
  r.read("kind", &t.kind);
  r.read("slot", &t.slot);
  int role = RC_ROLE_SAVED;
  r.choose("role", {"any", "input", "saved", "output"}, &role);
  t.role = static_cast<rc_role>(role);
  r.read("bytes", &t.bytes);
  t.rows = 1;
  r.read("rows", &t.rows);
  r.read("row_local", &t.row_local);
  r.read("replicated", &t.replicated);
  t.can_recompute = t.role != RC_ROLE_INPUT;
  r.read("can_recompute", &t.can_recompute);
  r.fail(read_seconds(&r, "recompute_seconds", &out->recompute_seconds));
  r.fail(read_seconds(&r, "offload_seconds", &out->offload_seconds));
  r.fail(read_slots(&r, t, &out->statistics));
  uint32_t moment = UINT32_MAX;
  r.read("moment", &moment);
  RC_TRY(r.finish());
  if (moment != UINT32_MAX) {
    if (moment >= moments)
      return argument_error(at + "/moment", format("%u, there are %zu moments", moment, moments));
    out->moment = static_cast<int32_t>(moment);
  }
  if (t.kind.empty()) return argument_error(at + "/kind", "missing");
  if (t.name.empty()) t.name = t.kind + (t.slot.empty() ? "" : "." + t.slot);
  if (t.role == RC_ROLE_INPUT && t.can_recompute)
    return argument_error(at + "/can_recompute", "true, but no module recomputes its own input");
  if (t.bytes > uint64_t{1} << 50)
    return argument_error(at + "/bytes", "more than a pebibyte for one tensor of one layer");
  return ok_status();
}

Status read_moments(ObjectReader* r, ClassSpec* out) {
  const json* list = r->find("moments");
  if (list == nullptr) return ok_status();
  const std::string at = r->pointer("moments");
  RC_TRY(check_array(*list, at, 64));
  if (list->empty()) return argument_error(at, "empty, must have at least one entry");
  out->moments.clear();
  for (size_t i = 0; i < list->size(); ++i) {
    uint64_t bytes = 0;
    RC_TRY(read_count((*list)[i], at + format("/%zu", i), 0, uint64_t{1} << 50, &bytes));
    out->moments.push_back(static_cast<int64_t>(bytes));
  }
  return ok_status();
}

Status read_layers(ObjectReader* r, int32_t index, PlanRequest* out) {
  const json* list = r->find("layers");
  auto& of = out->layer_class;
  if (list == nullptr) {
    for (int32_t& one : of)
      if (one < 0) one = index;
    return ok_status();
  }
  const std::string at = r->pointer("layers");
  RC_TRY(check_array(*list, at));
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string here = at + format("/%zu", i);
    uint64_t layer = 0;
    RC_TRY(read_count((*list)[i], here, 0, of.size() - 1, &layer));
    if (of[layer] >= 0) return argument_error(here, format("layer %zu has a class", size_t(layer)));
    of[layer] = index;
  }
  return ok_status();
}

Status read_class(const json& value, const std::string& at, PlanRequest* out) {
  ObjectReader r(value, at);
  ClassSpec c;
  c.name = format("class%zu", out->classes.size());
  r.read("name", &c.name);
  r.fail(read_seconds(&r, "forward_seconds", &c.forward_seconds));
  r.fail(read_seconds(&r, "backward_seconds", &c.backward_seconds));
  r.fail(read_moments(&r, &c));
  r.fail(read_layers(&r, static_cast<int32_t>(out->classes.size()), out));
  if (const json* tensors = r.find("tensors")) {
    const std::string here = r.pointer("tensors");
    r.fail(check_array(*tensors, here, 4096));
    for (size_t i = 0; !r.failed() && i < tensors->size(); ++i) {
      TensorSpec t;
      r.fail(read_tensor((*tensors)[i], here + format("/%zu", i), c.moments.size(), &t));
      for (const TensorSpec& other : c.tensors) {
        const SavedTensor &a = t.tensor, &b = other.tensor;
        if (!r.failed() && a.kind == b.kind && a.slot == b.slot && a.role == b.role)
          r.fail(argument_error(
              here + format("/%zu", i),
              "its kind, slot and role are twice in the class: no policy could tell them apart"));
      }
      c.published_bytes += t.tensor.bytes;
      c.tensors.push_back(std::move(t));
    }
  }
  c.tail_seconds = c.forward_seconds;
  for (const TensorSpec& t : c.tensors) c.tail_seconds -= t.recompute_seconds;
  c.tail_seconds = std::max(0.0, c.tail_seconds);
  RC_TRY(r.finish());
  out->classes.push_back(std::move(c));
  return ok_status();
}

}  // namespace

Status read_inventory(const json& value, PlanRequest* out) {
  ObjectReader r(value, "/inventory");
  out->measured = true;
  out->model = Architecture();
  out->model.name = "measured";
  r.read("name", &out->model.name);
  r.read("num_layers", &out->model.num_layers, 1);
  if (!r.failed() && (out->model.num_layers < 1 || out->model.num_layers > kMaxModelLayers)) {
    return argument_error("/inventory/num_layers", format("%u, must be between 1 and %u",
                                                          out->model.num_layers, kMaxModelLayers));
  }
  out->layer_class.assign(out->model.num_layers, -1);
  if (const json* kinds = r.find("kinds")) {
    r.fail(check_array(*kinds, r.pointer("kinds")));
    for (size_t i = 0; !r.failed() && i < kinds->size(); ++i) {
      KindSpec kind;
      r.fail(read_kind((*kinds)[i], r.pointer("kinds") + format("/%zu", i), &kind));
      out->kinds.push_back(std::move(kind));
    }
  }
  if (const json* classes = r.find("classes")) {
    r.fail(check_array(*classes, r.pointer("classes"), 1024));
    for (size_t i = 0; !r.failed() && i < classes->size(); ++i)
      r.fail(read_class((*classes)[i], r.pointer("classes") + format("/%zu", i), out));
  }
  RC_TRY(r.finish());
  const auto none = std::find(out->layer_class.begin(), out->layer_class.end(), -1);
  if (none != out->layer_class.end()) {
    return argument_error("/inventory/classes", format("layer %zu has no class",
                                                       size_t(none - out->layer_class.begin())));
  }
  return ok_status();
}

}  // namespace rc::plan
