// src/testing/fuzz_policy_json.cc: any bytes as the JSON form of a policy: refused with a reason,
// or a table that its own description gives again, answer for answer.
#include <rcore/rcore.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "src/testing/check.h"

namespace {

std::string describe(const rc_policy* policy) {
  uint64_t needed = 0;
  RC_CHECK(rc_policy_describe(policy, nullptr, 0, &needed) >= 0, "the length of a description");
  RC_CHECK(needed > 0, "a description counts its NUL");
  std::string text(needed, '?');
  uint64_t again = 0;
  RC_CHECK(rc_policy_describe(policy, text.data(), needed, &again) >= 0, "a description that fits");
  RC_CHECK(again == needed && text.back() == '\0', "a description is as long as it says");
  text.pop_back();
  RC_CHECK(text.find('\0') == std::string::npos, "a description is one string");
  char cut[8];
  std::memset(cut, '?', sizeof cut);
  RC_CHECK(rc_policy_describe(policy, cut, sizeof cut, &again) >= 0, "a description that is cut");
  RC_CHECK(std::memchr(cut, '\0', sizeof cut) != nullptr && again == needed,
           "a cut description ends");
  return text;
}

void check_error(const std::string& input) {
  rc_error_info error = rc_error_info_init();
  RC_CHECK(rc_error_last(&error) == RC_OK, "a failure leaves a record");
  RC_CHECK(error.code < 0 && error.code != RC_E_INTERNAL, "code %d: %s", error.code, error.message);
  RC_CHECK(error.message[0] != '\0', "a refused text of %zu B has a message", input.size());
  RC_CHECK(std::strcmp(error.call, "rc_policy_create_json") == 0,
           "the record names the call, not '%s'", error.call);
}

rc_decision decide(const rc_policy* policy, const rc_site& site) {
  rc_decision decision = rc_decision_init();
  const rc_status status = rc_policy_decide(policy, &site, &decision);
  if (status < 0) {
    RC_CHECK(status == RC_E_ARGUMENT, "decide failed with %d", status);
    RC_CHECK(decision.action == RC_ACTION_KEEP && decision.n_layers == 0,
             "a failure clears its output");
    return decision;
  }
  RC_CHECK(decision.action >= RC_ACTION_KEEP && decision.action <= RC_ACTION_STORE, "action %d",
           decision.action);
  RC_CHECK(std::memchr(decision.group, '\0', sizeof decision.group) != nullptr, "the group ends");
  if (site.slot_role == RC_ROLE_PARAMETER || site.slot_role == RC_ROLE_DECISION)
    RC_CHECK(decision.action == RC_ACTION_KEEP, "parameters and decisions are kept");
  return decision;
}

// `kind` also comes out of the text, so that kinds of the host are met.
void compare(const rc_policy* a, const rc_policy* b, const char* kind) {
  const char* const kinds[] = {"core_attn", "mlp",   "moe",     "layernorm",
                               "mlp_norm",  "layer", "moe_act", kind};
  const uint32_t layers[] = {0, 1, 7, 0xffffffffu};
  for (const char* name : kinds)
    for (uint32_t layer : layers)
      for (int role = RC_ROLE_INPUT; role <= RC_ROLE_DECISION; ++role) {
        rc_site site = rc_site_init();
        site.kind = name;
        site.layer = layer;
        site.chunk = layer & 1;
        site.microbatch = static_cast<uint32_t>(role);
        site.slot_role = static_cast<rc_role>(role);
        site.slot = layer == 7 ? "probs" : nullptr;
        const rc_decision x = decide(a, site), y = decide(b, site);
        RC_CHECK(std::memcmp(&x, &y, sizeof x) == 0, "%s, layer %u, role %d: %d and %d", name,
                 layer, role, x.action, y.action);
      }
}

void read_notes(const rc_policy* policy) {
  constexpr uint32_t kMost = 1u << 20;
  rc_note note = rc_note_init();
  uint32_t n = 0;
  for (; n < kMost; ++n) {
    const rc_status status = rc_policy_note(policy, n, &note);
    if (status == RC_PASS) break;
    RC_CHECK(status == RC_OK && note.message[0] != '\0', "note %u", n);
  }
  RC_CHECK(n < kMost, "the notes end");
  RC_CHECK(rc_policy_note(policy, 0xffffffffu, &note) == RC_PASS, "past the last note");
}

// The first kind-like word of the text after "kind", to ask the policy about it.
std::string kind_in(const std::string& text) {
  const size_t at = text.find("kind");
  if (at == std::string::npos) return "mine";
  const size_t begin = text.find_first_of("abcdefghijklmnopqrstuvwxyz", at + 6);
  if (begin == std::string::npos) return "mine";
  const size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789", begin);
  return text.substr(begin, std::min<size_t>(end - begin, 60));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  rc_policy* policy = reinterpret_cast<rc_policy*>(uintptr_t{1});
  if (rc_policy_create_json(input.data(), input.size(), &policy) < 0) {
    RC_CHECK(policy == nullptr, "a failure clears the handle");
    check_error(input);
    return 0;
  }
  const std::string text = describe(policy);
  rc_policy* again = nullptr;
  if (rc_policy_create_json(text.data(), text.size(), &again) < 0) {
    rc_error_info error = rc_error_info_init();
    RC_CHECK(rc_error_last(&error) == RC_OK, "a failure leaves a record");
    RC_CHECK(false, "own description refused: %s %s\n%s", error.field, error.message, text.c_str());
  }
  const std::string text_again = describe(again);
  RC_CHECK(text == text_again, "described differently:\n%s\n%s", text.c_str(), text_again.c_str());
  compare(policy, again, kind_in(input).c_str());
  read_notes(policy);
  rc_policy_release(again);
  rc_policy_release(policy);
  return 0;
}
