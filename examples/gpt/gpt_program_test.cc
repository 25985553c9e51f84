// examples/gpt/gpt_program_test.cc: runs the program itself, small: policies agree, files are
// written, mistakes are told.
#include <gtest/gtest.h>
#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr char kSmall[] =
    " --layers 4 --width 32 --heads 2 --seq 32 --batch 2 --microbatches 2 --steps 2 --warmup 2 "
    "--threads 1";

struct Outcome {
  int code = -1;
  std::string text;  // both streams
};

Outcome run(const std::string& arguments) {
  const std::string command = std::string(GPT_PROGRAM) + " " + arguments + " 2>&1";
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return outcome;
  char buffer[4096];
  size_t n;
  while ((n = fread(buffer, 1, sizeof buffer, pipe)) > 0) outcome.text.append(buffer, n);
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// A file name that is removed with its test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& suffix)
      : path_(testing::TempDir() + "gpt_" + std::to_string(getpid()) + "_" + suffix) {}
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Json {
 public:
  explicit Json(const std::string& path) : root_(json_load_file(path.c_str(), 0, nullptr)) {}
  ~Json() { json_decref(root_); }
  json_t* operator[](const char* key) const { return json_object_get(root_, key); }

 private:
  json_t* root_;
};

class GptProgram : public testing::TestWithParam<std::string> {};

TEST_P(GptProgram, GivesTheSameLossesAndGradientsUnderEveryPolicy) {
  TemporaryFile report(GetParam() + ".json"), trace(GetParam() + ".trace"),
      chart(GetParam() + ".svg");
  const Outcome outcome = run("--attention " + GetParam() + kSmall + " --report " + report.path() +
                              " --trace " + trace.path() + " --chart " + chart.path());
  ASSERT_EQ(outcome.code, 0) << outcome.text;
  EXPECT_NE(outcome.text.find("bit-identical under every policy"), std::string::npos)
      << outcome.text;

  const Json json(report.path());
  json_t* policies = json["policies"];
  ASSERT_EQ(json_array_size(policies), 13u);
  EXPECT_EQ(json_string_value(json["attention"]), GetParam());
  const json_t* none = json_array_get(policies, 0);
  std::map<std::string, const json_t*> by_name;
  for (size_t i = 0; i < json_array_size(policies); ++i) {
    const json_t* policy = json_array_get(policies, i);
    by_name[json_string_value(json_object_get(policy, "policy"))] = policy;
    for (const char* key : {"loss_digest", "gradient_digest", "final_loss"}) {
      EXPECT_TRUE(json_equal(json_object_get(policy, key), json_object_get(none, key)))
          << key << " of policy " << i;
    }
    for (const char* key : {"predicted_peak_bytes", "measured_peak_bytes", "resident_bytes",
                            "step_seconds", "step_ratio", "final_loss"}) {
      EXPECT_GT(json_number_value(json_object_get(policy, key)), 0.0) << key << " of policy " << i;
    }
  }
  const auto value = [&](const char* policy, const char* key) {
    return json_number_value(json_object_get(by_name.at(policy), key));
  };
  EXPECT_EQ(value("none", "replays_per_step"), 0);
  EXPECT_EQ(value("core_attn", "replays_per_step"), 8);   // 4 layers of 2 microbatches
  EXPECT_EQ(value("layernorm", "replays_per_step"), 16);  // two a layer
  EXPECT_EQ(value("uniform-1", "replays_per_step"), 8);
  for (const char* policy : {"none", "layernorm", "mlp", "uniform-1"}) {
    EXPECT_EQ(value(policy, "arena_misses"), 0) << policy;
    EXPECT_GE(value(policy, "arena_bytes"), value(policy, "arena_bound")) << policy;
    EXPECT_LE(value(policy, "arena_bytes"), 1.02 * value(policy, "arena_bound")) << policy;
  }
  EXPECT_LT(value("layernorm", "measured_peak_bytes"), value("none", "measured_peak_bytes"));
  EXPECT_LT(value("uniform-1", "measured_peak_bytes"), value("mlp", "measured_peak_bytes"));
  EXPECT_EQ(json_number_value(json_object_get(none, "step_ratio")), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Gpt, GptProgram, testing::Values("plain", "fused"),
                         [](const auto& info) { return info.param; });

TEST(GptFiles, TraceIsChromeJsonAndChartIsSvg) {
  TemporaryFile trace("t.json"), chart("t.svg");
  const Outcome outcome = run(std::string("--policy mlp") + kSmall + " --trace " + trace.path() +
                              " --chart " + chart.path());
  ASSERT_EQ(outcome.code, 0) << outcome.text;
  const Json json(trace.path());
  json_t* events = json["traceEvents"];
  ASSERT_GT(json_array_size(events), 100u);
  int replays = 0, counters = 0, processes = 0;
  for (size_t i = 0; i < json_array_size(events); ++i) {
    const json_t* event = json_array_get(events, i);
    const std::string phase = json_string_value(json_object_get(event, "ph"));
    processes += phase == "M";
    replays +=
        phase == "X" && std::string(json_string_value(json_object_get(event, "cat"))) == "replay";
    counters += phase == "C";
    if (phase == "X" || phase == "C") {
      EXPECT_GE(json_number_value(json_object_get(event, "ts")), 0.0);
    }
  }
  EXPECT_EQ(processes, 3);  // the program, none, mlp
  EXPECT_EQ(replays, 8);
  EXPECT_GT(counters, 100);
  const std::string svg = read_file(chart.path());
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_NE(svg.find(">mlp</text>"), std::string::npos);
  EXPECT_NE(svg.find(">none</text>"), std::string::npos);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
}

TEST(GptFiles, CompareTellsWhatGrewAndEndsWithOne) {
  TemporaryFile report("r.json"), smaller("s.json");
  ASSERT_EQ(run(std::string("--policy layernorm") + kSmall + " --report " + report.path()).code, 0);
  // An old report in which layernorm held a tenth less.
  json_t* old = json_load_file(report.path().c_str(), 0, nullptr);
  ASSERT_NE(old, nullptr);
  json_t* policies = json_object_get(old, "policies");
  for (size_t i = 0; i < json_array_size(policies); ++i) {
    json_t* policy = json_array_get(policies, i);
    for (const char* noisy : {"step_seconds", "step_ratio", "resident_bytes"}) {
      json_object_set_new(policy, noisy, json_real(1e12));
    }
  }
  json_t* layernorm = json_array_get(policies, 1);
  const double before = json_number_value(json_object_get(layernorm, "measured_peak_bytes"));
  json_dump_file(old, smaller.path().c_str(), 0);
  const Outcome same =
      run(std::string("--policy layernorm") + kSmall + " --compare " + smaller.path());
  EXPECT_EQ(same.code, 0) << same.text;
  EXPECT_NE(same.text.find("nothing grew"), std::string::npos) << same.text;

  json_object_set_new(layernorm, "measured_peak_bytes",
                      json_integer(static_cast<json_int_t>(before * 0.9)));
  json_dump_file(old, smaller.path().c_str(), 0);
  json_decref(old);
  const Outcome grown =
      run(std::string("--policy layernorm") + kSmall + " --compare " + smaller.path());
  EXPECT_EQ(grown.code, 1) << grown.text;
  EXPECT_NE(grown.text.find("layernorm: measured_peak_bytes grew"), std::string::npos)
      << grown.text;
}

TEST(GptFlags, MegatronsSpellingsGiveThePoliciesOfTheList) {
  TemporaryFile spelled("a.json"), overrides("b.json"), listed("c.json");
  ASSERT_EQ(run("--recompute_granularity selective --recompute_modules core_attn layernorm" +
                std::string(kSmall) + " --report " + spelled.path())
                .code,
            0);
  ASSERT_EQ(run("model.recompute_granularity=selective "
                "'model.recompute_modules=[\"core_attn\",\"layernorm\"]'" +
                std::string(kSmall) + " --report " + overrides.path())
                .code,
            0);
  ASSERT_EQ(
      run("--policy core_attn+layernorm" + std::string(kSmall) + " --report " + listed.path()).code,
      0);
  const Json a(spelled.path()), b(overrides.path()), c(listed.path());
  for (const char* key :
       {"predicted_peak_bytes", "measured_peak_bytes", "replays_per_step", "gradient_digest"}) {
    const json_t* expected = json_object_get(json_array_get(c["policies"], 1), key);
    EXPECT_TRUE(json_equal(json_object_get(json_array_get(a["policies"], 1), key), expected))
        << key;
    EXPECT_TRUE(json_equal(json_object_get(json_array_get(b["policies"], 1), key), expected))
        << key;
  }
}

TEST(GptBudgets, AreHeldAsPredictedWithTheSameLossesAndGradients) {
  TemporaryFile report("b.json"), front("b.svg");
  const Outcome outcome =
      run("--budgets 5 --budget 0.5 --policy mlp --policy uniform-2" + std::string(kSmall) +
          " --report " + report.path() + " --front " + front.path());
  ASSERT_EQ(outcome.code, 0) << outcome.text;
  EXPECT_NE(outcome.text.find("bit-identical under every policy"), std::string::npos);
  EXPECT_NE(outcome.text.find("Pareto front"), std::string::npos) << outcome.text;
  const Json json(report.path());
  json_t* policies = json["policies"];
  ASSERT_EQ(json_array_size(policies), 9u);  // none, mlp, uniform-2, one budget, five
  const json_t* none = json_array_get(policies, 0);
  const auto number = [](const json_t* policy, const char* key) {
    return json_number_value(json_object_get(policy, key));
  };
  const double all = number(none, "measured_peak_bytes");
  double before = 0;
  for (size_t i = 0; i < 9; ++i) {
    const json_t* policy = json_array_get(policies, i);
    const double budget = number(policy, "budget_bytes");
    const double peak = number(policy, "measured_peak_bytes");
    EXPECT_EQ(budget > 0, i >= 3);
    EXPECT_TRUE(json_equal(json_object_get(policy, "gradient_digest"),
                           json_object_get(none, "gradient_digest")));
    EXPECT_EQ(peak, number(policy, "predicted_peak_bytes"));
    if (i < 3) continue;
    EXPECT_LE(peak, budget);
    if (i == 3) {
      EXPECT_EQ(budget, static_cast<double>(static_cast<json_int_t>(all / 2)));
    } else {
      EXPECT_GT(budget, before);
      before = budget;
    }
  }
  EXPECT_EQ(before, all);
  EXPECT_EQ(number(json_array_get(policies, 8), "replays_per_step"), 0);
  const std::string svg = read_file(front.path());
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_NE(svg.find(">budget 5 of 5</text>"), std::string::npos);
  EXPECT_NE(svg.find(">mlp</text>"), std::string::npos);
}

TEST(GptBudgets, ThatNothingFitsNameTheLeastThatWould) {
  const Outcome outcome = run(std::string("--policy budget=1kB") + kSmall);
  EXPECT_EQ(outcome.code, 1) << outcome.text;
  EXPECT_NE(outcome.text.find("budget=1kB: budget.bytes: 1000 bytes; the least that would do is "),
            std::string::npos)
      << outcome.text;
}

TEST(GptBudgets, ServeALongRunToo) {
  const Outcome outcome = run(std::string("--train 4 --budget 0.3") + kSmall);
  EXPECT_EQ(outcome.code, 1) << outcome.text;  // four steps do not beat the bigram model
  EXPECT_NE(outcome.text.find("policy budget=0.3"), std::string::npos) << outcome.text;
}

struct Mistake {
  const char* arguments;
  const char* told;  // must be in the one line
};
void PrintTo(const Mistake& mistake, std::ostream* os) {
  *os << "gpt " << mistake.arguments;
}

class GptMistake : public testing::TestWithParam<Mistake> {};

TEST_P(GptMistake, GivesOneLineAndExitCodeTwo) {
  const Outcome outcome = run(GetParam().arguments);
  EXPECT_EQ(outcome.code, 2) << outcome.text;
  EXPECT_NE(outcome.text.find(GetParam().told), std::string::npos) << outcome.text;
  EXPECT_EQ(std::count(outcome.text.begin(), outcome.text.end(), '\n'), 1) << outcome.text;
  EXPECT_EQ(outcome.text.rfind("gpt: ", 0), 0u) << outcome.text;
}

const Mistake kMistakes[] = {
    {"--layer 4", "--layer:"},
    {"extra", "extra"},
    {"--layers", "--layers: needs a value"},
    {"--layers four", "four"},
    {"--layers 0", "--layers"},
    {"--heads 5", "--heads"},
    {"--seq 30", "--seq"},
    {"--dropout 1", "--dropout"},
    {"--dropout nan", "--dropout"},
    {"--microbatches 65", "--microbatches"},
    {"--warmup 1", "--warmup"},
    {"--attention flash", "flash"},
    {"--policy everything", "everything"},
    {"--policy-json /nonexistent/policy.json", "/nonexistent/policy.json"},
    {"--compare /nonexistent/report.json --layers 1", "/nonexistent/report.json"},
    {"--text /nonexistent/text --train 1", "/nonexistent/text"},
    {"--budget", "--budget: needs a value"},
    {"--budget 0", "neither bytes"},
    {"--budget -5MB", "neither bytes"},
    {"--budget 60XB", "60XB"},
    {"--budget 1.5", "needs a unit"},
    {"--policy budget=much", "much"},
    {"--budgets 1", "--budgets"},
    {"--budgets 60", "--budgets"},
    {"--recompute-granularity sometimes", "sometimes"},
    {"--recompute_granularity selective --recompute_modules core_atn", "core_attn"},
    {"--recompute-granularity full", "recompute_method"},
    {"--recompute-granularity full --recompute-method uniform --recompute-num-layers 0",
     "recompute"},
    {"--recompute-granularity full --recompute-method block --recompute-num-layers many", "many"}};
INSTANTIATE_TEST_SUITE_P(Gpt, GptMistake, testing::ValuesIn(kMistakes),
                         [](const auto& info) { return std::to_string(info.index); });

TEST(GptFlags, HelpAndListEndWithZero) {
  const Outcome help = run("--help"), list = run("--list");
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.text.find("--recompute-granularity"), std::string::npos);
  EXPECT_EQ(list.code, 0);
  EXPECT_EQ(std::count(list.text.begin(), list.text.end(), '\n'), 13) << list.text;
}

TEST(GptTrain, ALongRunPrintsTheBigramModelBesideIt) {
  const Outcome outcome = run(std::string("--train 4 --policy uniform-2") + kSmall);
  EXPECT_EQ(outcome.code, 1) << outcome.text;  // four steps do not beat it
  EXPECT_NE(outcome.text.find("byte-bigram model 2."), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("not below it yet"), std::string::npos) << outcome.text;
}

}  // namespace
