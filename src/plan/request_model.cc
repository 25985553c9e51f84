// src/plan/request_model.cc: a model, a layout and a device from JSON, in Megatron's names.
#include "src/plan/request_model.h"

#include <algorithm>

#include "src/plan/object_reader.h"
#include "src/policy/json_values.h"
#include "src/policy/nearest_name.h"
#include "src/policy/policy.h"

namespace rc::plan {

using nlohmann::json;

Status below(const char* member, Status status) {
  if (status.ok() || (!status.field().empty() && status.field()[0] == '/')) return status;
  return argument_error(format("/%s/%s", member, status.field().c_str()), status.message());
}

namespace {

Status unknown_name(const char* what, const std::string& at, const std::string& name,
                    const std::vector<std::string_view>& known) {
  std::string all;
  for (const std::string_view one : known) all += (all.empty() ? "" : ", ") + std::string(one);
  return argument_error(at, format("no %s %s (there are %s)%s", what, in_quotes(name).c_str(),
                                   all.c_str(), did_you_mean(name, known).c_str()));
}

void read_attention(ObjectReader* r, Architecture* m) {
  Attention& a = m->attention;
  bool latent = a.kind == AttentionKind::kLatent;
  r->read("num_attention_heads", &a.heads, 1);
  r->read("multi_latent_attention", &latent);
  a.kind = latent ? AttentionKind::kLatent : AttentionKind::kGrouped;
  if (a.kv_heads == 0 || latent) a.kv_heads = a.heads;
  r->read("num_query_groups", &a.kv_heads, 1);
  r->read("fused_attention", &a.fused);
  r->read("causal_attention", &a.causal);
  r->read("rotary", &a.rotary);
  uint32_t nope = latent ? a.head_dim - a.rope_dim : 0;
  r->read("q_lora_rank", &a.q_rank);
  r->read("kv_lora_rank", &a.kv_rank);
  r->read("qk_head_dim", &nope);
  r->read("qk_pos_emb_head_dim", &a.rope_dim);
  if (latent) {
    a.head_dim = nope + a.rope_dim;
    a.kv_heads = a.heads;
  } else if (a.head_dim == 0 && a.heads != 0) {
    a.head_dim = m->hidden / a.heads;
  }
  r->read("kv_channels", &a.head_dim);
  if (a.value_dim == 0 || !latent) a.value_dim = a.head_dim;
  r->read("v_head_dim", &a.value_dim);
}

// An array with one entry per layer, or n: every n-th layer, from the first on.
Status read_moe_layers(ObjectReader* r, Architecture* m) {
  const json* value = r->find("moe_layer_freq");
  if (value == nullptr) {
    if (m->experts.count != 0 && m->moe_layers.size() != m->num_layers)
      m->moe_layers.assign(m->num_layers, 1);
    return ok_status();
  }
  const std::string at = r->pointer("moe_layer_freq");
  m->moe_layers.clear();
  if (value->is_array()) {
    RC_TRY(check_array(*value, at));
    for (size_t i = 0; i < value->size(); ++i) {
      uint64_t flag = 0;
      RC_TRY(read_count((*value)[i], at + format("/%zu", i), 0, 1, &flag));
      m->moe_layers.push_back(static_cast<uint8_t>(flag));
    }
    return ok_status();
  }
  uint64_t every = 0;
  RC_TRY(read_count(*value, at, 1, UINT32_MAX, &every));
  for (uint32_t layer = 0; layer < m->num_layers; ++layer)
    m->moe_layers.push_back(layer % every == 0);
  return ok_status();
}

}  // namespace

Status read_model(const json& value, Architecture* out) {
  *out = Architecture();
  const std::string at = "/model";
  std::string base = value.is_string() ? value.get<std::string>() : "";
  if (value.is_object() && value.contains("base"))
    RC_TRY(read_name(value["base"], at + "/base", &base));
  if (!base.empty() && !find_preset(base, out))
    return unknown_name("built-in model", at, base, preset_names());
  if (value.is_string()) return below("model", check(*out));

  ObjectReader r(value, at);
  r.find("base");
  r.read("name", &out->name);
  r.read("hidden_size", &out->hidden, 1);
  const uint32_t layers_before = out->num_layers;
  r.read("num_layers", &out->num_layers, 1);
  if (out->num_layers > kMaxModelLayers) {
    return argument_error("/model/num_layers",
                          format("%u, must be between 1 and %u", out->num_layers, kMaxModelLayers));
  }
  if (out->num_layers != layers_before && !out->moe_layers.empty())
    out->moe_layers.resize(out->num_layers, 1);
  r.read("vocab_size", &out->vocab);
  int norm = out->norm == NormKind::kLayerNorm ? 0 : 1;
  r.choose("normalization", {"LayerNorm", "RMSNorm"}, &norm);
  out->norm = norm == 0 ? NormKind::kLayerNorm : NormKind::kRmsNorm;
  r.read("ffn_hidden_size", &out->ffn);
  r.read("swiglu", &out->gated);
  r.read("attention_dropout", &out->attention_dropout);
  r.read("hidden_dropout", &out->hidden_dropout);
  r.read("tied_embeddings", &out->tied_embeddings);
  r.read("element_bytes", &out->element_bytes, 1);
  read_attention(&r, out);
  Experts& e = out->experts;
  r.read("num_experts", &e.count);
  r.read("moe_router_topk", &e.top_k);
  if (e.count != 0 && e.width == 0) e.width = out->ffn;
  r.read("moe_ffn_hidden_size", &e.width);
  r.read("moe_shared_expert_intermediate_size", &e.shared_width);
  r.read("moe_weights_after_fc2", &e.weights_after_fc2);
  r.fail(read_moe_layers(&r, out));
  if (e.count == 0) out->moe_layers.clear();
  RC_TRY(r.finish());
  if (out->name.empty()) out->name = "model";
  return below("model", check(*out));
}

Status read_layout(const json& value, Layout* out) {
  *out = Layout();
  ObjectReader r(value, "/layout");
  r.read("tensor_model_parallel_size", &out->tp, 1);
  r.read("sequence_parallel", &out->sp);
  r.read("context_parallel_size", &out->cp, 1);
  r.read("expert_model_parallel_size", &out->ep, 1);
  r.read("expert_tensor_parallel_size", &out->etp);
  r.read("pipeline_model_parallel_size", &out->pp, 1);
  r.read("virtual_pipeline_model_parallel_size", &out->vpp, 1);
  r.read("data_parallel_size", &out->dp, 1);
  r.read("seq_length", &out->seq, 1);
  r.read("micro_batch_size", &out->mbs, 1);
  r.read("num_microbatches", &out->microbatches);
  r.read("num_layers_in_first_pipeline_stage", &out->first_stage_layers);
  r.read("num_layers_in_last_pipeline_stage", &out->last_stage_layers);
  int fp8 = out->fp8;
  r.choose("fp8", {"off", "delayed", "tensorwise", "blockwise", "mxfp8"}, &fp8);
  out->fp8 = static_cast<rc_fp8>(fp8);
  if (const json* list = r.find("layers_per_virtual_stage")) {
    const std::string at = r.pointer("layers_per_virtual_stage");
    r.fail(check_array(*list, at));
    for (size_t i = 0; !r.failed() && i < list->size(); ++i) {
      uint64_t layers = 0;
      r.fail(read_count((*list)[i], at + format("/%zu", i), 0, kMaxLayers, &layers));
      out->layers_per_virtual_stage.push_back(static_cast<uint32_t>(layers));
    }
  }
  return r.finish();
}

Status read_hardware(const json& value, DeviceProfile* out) {
  *out = DeviceProfile();
  const std::string at = "/hardware";
  std::string base = value.is_string() ? value.get<std::string>() : "";
  if (value.is_object() && value.contains("base"))
    RC_TRY(read_name(value["base"], at + "/base", &base));
  if (!base.empty() && !find_device(base, out))
    return unknown_name("built-in device", at, base, device_names());
  if (value.is_string()) return ok_status();
  ObjectReader r(value, at);
  r.find("base");
  r.read("name", &out->name);
  r.read("gemm_flops", &out->gemm_flops);
  r.read("gemm_share", &out->gemm_share);
  r.read("fp8_flops", &out->fp8_flops);
  r.read("attention_share", &out->attention_share);
  r.read("hbm_rate", &out->hbm_rate);
  r.read("hbm_share", &out->hbm_share);
  r.read("host_rate", &out->host_rate);
  r.read("host_share", &out->host_share);
  r.read("copy_share", &out->copy_share);
  r.read("tp_rate", &out->tp_rate);
  r.read("ep_rate", &out->ep_rate);
  r.read("launch_seconds", &out->launch_seconds);
  r.read("memory_bytes", &out->memory_bytes);
  RC_TRY(r.finish());
  if (out->name.empty()) out->name = "device";
  return below("hardware", check(*out));
}

}  // namespace rc::plan
