// src/plan/request_model.h: the members `model`, `layout` and `hardware` of a request.
#pragma once

#include <nlohmann/json.hpp>

#include "src/plan/request.h"

namespace rc::plan {

Status read_model(const nlohmann::json& value, Architecture* out);
Status read_layout(const nlohmann::json& value, Layout* out);
Status read_hardware(const nlohmann::json& value, DeviceProfile* out);
Status read_inventory(const nlohmann::json& value, PlanRequest* out);
// "field" as "/member/field".
Status below(const char* member, Status status);

}  // namespace rc::plan
