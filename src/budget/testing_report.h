// src/budget/testing_report.h: a plan's report as tests read it.
#pragma once

#include <gtest/gtest.h>
#include <rcore/rcore.h>

#include <nlohmann/json.hpp>
#include <string>

namespace rc::testing {

inline nlohmann::json report(const rc_plan* plan) {
  uint64_t needed = 0;
  EXPECT_EQ(rc_plan_report(plan, nullptr, 0, &needed), RC_OK);
  std::string text(needed, '\0');
  EXPECT_EQ(rc_plan_report(plan, text.data(), needed, &needed), RC_OK);
  text.pop_back();
  return nlohmann::json::parse(text);
}

}  // namespace rc::testing
