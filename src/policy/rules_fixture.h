// src/policy/rules_fixture.h: sample inputs and expectations of the tests of rules.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "src/policy/policy.h"

namespace rc {

inline PolicySpec selective(std::vector<std::string> modules) {
  PolicySpec spec;
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  spec.recompute_modules = std::move(modules);
  return spec;
}

// Four layers in one stage, uniform, one by one.
inline PolicySpec full() {
  PolicySpec spec;
  spec.granularity = RC_GRANULARITY_FULL;
  spec.method = RC_METHOD_UNIFORM;
  spec.num_layers = 4;
  spec.recompute_num_layers = 1;
  return spec;
}

inline PolicySpec cpu_offloading(uint32_t layers, uint32_t n) {
  PolicySpec spec;
  spec.num_layers = layers;
  spec.flags = RC_POLICY_CPU_OFFLOADING;
  spec.cpu_offloading_num_layers = n;
  return spec;
}

inline PolicySpec fine_grained(std::vector<std::string> modules) {
  PolicySpec spec;
  spec.flags = RC_POLICY_FINE_GRAINED_OFFLOADING;
  spec.offload_modules = std::move(modules);
  return spec;
}

inline std::shared_ptr<const Policy> expect_accepted(const PolicySpec& spec) {
  std::shared_ptr<const Policy> policy;
  const Status status = create_policy(spec, &policy);
  EXPECT_TRUE(status.ok()) << status.field() << ": " << status.message();
  return policy;
}

inline void expect_status(const Status& status, const std::string& id, const std::string& field,
                          const std::string& part) {
  EXPECT_EQ(status.code(), RC_E_ARGUMENT);
  EXPECT_EQ(status.field(), field);
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  EXPECT_LT(status.message().size(), 512u);
  if (id.empty()) return;
  const std::string tail = " [" + id + "]";
  const std::string& message = status.message();
  ASSERT_GT(message.size(), tail.size());
  EXPECT_EQ(message.substr(message.size() - tail.size()), tail) << message;
}

// Refused, by that rule (empty: by none of Megatron's), naming that field; the message has `part`.
inline void expect_refused(const PolicySpec& spec, const std::string& id, const std::string& field,
                           const std::string& part) {
  std::shared_ptr<const Policy> policy;
  expect_status(create_policy(spec, &policy), id, field, part);
  EXPECT_EQ(policy, nullptr);
}

inline void expect_json_refused(const std::string& text, const std::string& id,
                                const std::string& field, const std::string& part) {
  std::shared_ptr<const Policy> policy;
  expect_status(create_policy_json(text, &policy), id, field, part);
  EXPECT_EQ(policy, nullptr);
}

// Accepted, but refused by that rule where strict_megatron is set.
inline void expect_relaxed(PolicySpec spec, const std::string& id, const std::string& field) {
  expect_accepted(spec);
  spec.flags |= RC_POLICY_STRICT_MEGATRON;
  expect_refused(spec, id, field, "strict_megatron");
}

inline int notes_with(const PolicySpec& spec, const std::string& part) {
  const auto policy = expect_accepted(spec);
  int n = 0;
  if (policy == nullptr) return -1;
  for (const Note& note : policy->notes()) {
    EXPECT_LT(note.message.size(), 512u);
    EXPECT_LT(note.field.size(), 64u);
    if (note.message.find(part) != std::string::npos) ++n;
  }
  return n;
}

}  // namespace rc
