# tests/plan/test_cli.py: the three commands from outside.
from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from rcore.plan import Policy


def test_plan_prints_the_table_the_nearest_flags_and_the_proof(cli):
    run = cli(
        "plan",
        "llama3-70b",
        "--budget",
        "14GB",
        "--tp",
        "4",
        "--pp",
        "4",
        "--vpp",
        "5",
        "--sp",
        "--seq",
        "4096",
        "--mbs",
        "1",
        "--options",
        "recompute",
    )
    assert run.code == 0 and run.err == ""
    rows = [
        line.split()
        for line in run.out.splitlines()
        if line.strip().startswith(("0 ", "1 ", "2 ", "3 "))
    ]
    assert [float(r[4]) <= 14.0 for r in rows] == [True] * 4
    assert "act" in run.out and "Nearest in Megatron: --recompute-granularity" in run.out
    assert "Proven optimal on every rank." in run.out


def test_a_budget_above_all_needs_nothing(cli):
    run = cli("plan", "llama3-8b", "--budget", "200GB", "--seq", "4096")
    assert run.code == 0 and "recompute  " not in run.out and "(no recomputation)" in run.out


def test_plan_writes_policy_report_and_chart(cli, tmp_path, fixtures):
    policy, report, chart = (tmp_path / n for n in ("policy.json", "report.json", "chart.svg"))
    run = cli(
        "plan",
        fixtures / "llama.config.json",
        "--budget",
        "50%",
        "--seq",
        "4096",
        "--json",
        policy,
        "--report",
        report,
        "--chart",
        chart,
    )
    assert run.code == 0
    assert Policy.from_json(policy.read_text()).describe()["num_layers"] == 32
    ranks = json.loads(report.read_text())["ranks"]
    assert ranks[0]["certificate"]["optimal"] and ranks[0]["peak_bytes"] <= ranks[0]["budget_bytes"]
    svg = ElementTree.parse(chart).getroot()
    names = [e.tag.rpartition("}")[2] for e in svg.iter()]
    assert names.count("polyline") == 2 and names.count("circle") > 10


def test_json_alone_prints_nothing_but_the_policy(cli):
    run = cli("plan", "llama3-8b", "--budget", "6GB", "--seq", "4096", "--json")
    assert json.loads(run.out)["rcore_policy"] == 1


def test_the_whole_gpu_leaves_what_weights_do_not_take(cli):
    tight = cli("plan", "llama3-8b", "--memory", "80GB", "--tp", "4", "--sp", "--seq", "8192")
    assert tight.code == 0
    too_big = cli("plan", "llama3-70b", "--memory", "80GB", "--seq", "8192")
    assert too_big.code == 2 and "raise --dp, --tp or --pp" in too_big.err


def test_megatron_settings_bring_their_own_layout(cli, fixtures):
    run = cli("plan", fixtures / "moe_fine.yaml", "--budget", "60%")
    assert run.code == 0 and "moe_fine" in run.out
    assert [
        line.split()[1] for line in run.out.splitlines() if line.strip().startswith(("0 ", "1 "))
    ] == ["4", "8"]


def test_explain_points_out_what_does_nothing(cli):
    run = cli(
        "explain",
        "--recompute-granularity selective --recompute-modules core_attn",
        "llama3-70b",
        "--tp",
        "4",
        "--pp",
        "4",
        "--sp",
    )
    assert run.code == 0
    assert "core_attn frees 0 bytes here" in run.out and "0.0%" in run.out
    assert run.out.count("core_attn") == 2 and "note:" not in run.out  # told once, with its fix
    full = cli(
        "explain",
        "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
        "llama3-8b",
    )
    assert "33.33%" in full.out


def test_explain_reads_a_plan_again(cli, tmp_path):
    policy = tmp_path / "p.json"
    assert (
        cli(
            "plan",
            "deepseek-v3",
            "--budget",
            "70%",
            "--ep",
            "64",
            "--json",
            policy,
            "--options",
            "recompute",
        ).code
        == 0
    )
    run = cli("explain", policy, "deepseek-v3", "--ep", "64")
    assert run.code == 0
    saved = float(
        next(line for line in run.out.splitlines() if line.startswith("   0"))
        .split()[3]
        .rstrip("%")
    )
    assert 29.9 <= saved <= 31


@pytest.mark.parametrize("file, verdict, code", [
    ("moe_fine.yaml", "fine", 0), ("dense_wasteful.yaml", "wasteful", 0), ("wrong.sh", "wrong", 1)])
def test_check_tells_settings_apart(cli, fixtures, file, verdict, code):
    run = cli("check", fixtures / file)
    assert (run.code, run.err) == (code, "")
    assert run.out.splitlines()[0].endswith(f": {verdict}"), run.out


def test_check_finds_every_rule_and_not_only_the_first(cli, fixtures):
    run = cli("check", "--json", fixtures / "wrong.sh")
    found = json.loads(run.out)[0]["findings"]
    rules = {f["rule"] for f in found if f["level"] == "wrong"}
    assert {"ARG1425", "TC1926", "TC1958", "TC1964", "TC1934"} <= rules, found
    for f in found:
        if f["level"] == "wrong":
            assert f["symptom"] and f["cause"] and f["fix"], f


def test_check_says_one_thing_once(cli, fixtures, tmp_path):
    """A rule, the memory model and the time above the plan may all mean one module."""
    run = cli("check", "--json", fixtures / "dense_wasteful.yaml")
    first, second = json.loads(run.out)[0]["findings"]
    assert (first["level"], first["field"]) == ("wasteful", "recompute_modules/0")
    assert first["rule"] == "TC1983" and "fused attention" in first["cause"]
    assert "core_attn frees 0 bytes here and costs" in first["cause"]
    assert (second["level"], second["field"]) == ("note", "recompute_modules/1")
    assert "fused into the next linear" in second["cause"]
    file = tmp_path / "mlp.yaml"
    text = (fixtures / "dense_wasteful.yaml").read_text()
    file.write_text(text.replace("core_attn layernorm", "core_attn mlp"))
    told = cli("check", "--json", file)
    fields = [f["field"] for f in json.loads(told.out)[0]["findings"]]
    assert fields == ["recompute_modules/0", "recompute_granularity"]  # mlp costs more than needed


def test_check_sums_many_files_up(cli, fixtures):
    run = cli(
        "check",
        "--summary",
        fixtures / "wrong.sh",
        fixtures / "dense_wasteful.yaml",
        fixtures / "moe_fine.yaml",
    )
    assert run.code == 1
    assert run.out.startswith("3 files: 1 fine, 1 wasteful, 1 wrong\n")
    assert "no saving at all, and slower" in run.out


def test_a_plan_below_the_least_of_single_layers_has_units(cli):
    small = ("plan", "llama3-70b", "--tp", "8", "--sp", "--seq", "4096", "--options", "recompute")
    least = cli(*small, "--budget", "1MB").err
    at_least = int(re.search(r"the least that would do is (\d+)", least).group(1))
    run = cli(*small, "--budget", f"{at_least}B")
    assert run.code == 0, run.err
    assert "units" in run.out and "Proven optimal on every rank" in run.out


def test_token_cuts_are_listed_since_the_policy_lacks_them(cli):
    run = cli("plan", "llama3-8b", "--budget", "45%", "--seq", "4096", "--token-split")
    assert run.code == 0, run.err
    assert "A policy cannot say that" in run.out
    cut = re.search(
        r"rank 0, layer \d+, \w+: of its tokens (\d+) kept, (\d+) (offloaded|recomputed); the "
        r"policy says (\w+) for all",
        run.out,
    )
    assert cut and int(cut[1]) + int(cut[2]) == 4096, run.out


def test_a_plan_that_is_not_proven_says_how_far_it_can_be_from_the_best(cli, monkeypatch):
    import rcore.cli.plan as command

    def unproven(request):
        report = make_plan(request)
        rank = report["ranks"][1]
        step = rank["forward_seconds"] + rank["backward_seconds"] + rank["replay_seconds"]
        rank["certificate"] |= {
            "optimal": False,
            "lower_bound_ps": rank["certificate"]["objective_ps"] - round(step * 1e10),
        }
        return report

    make_plan = command.make_plan
    monkeypatch.setattr(command, "make_plan", unproven)
    run = cli(
        "plan",
        "llama3-8b",
        "--pp",
        "4",
        "--budget",
        "50%",
        "--seq",
        "4096",
        "--options",
        "recompute",
    )
    assert (
        "Proven optimal on 3 of 4 ranks; on rank 1 within 1 % of the time of an optimal step, "
        "proven."
        in run.out
    )


def test_a_time_limit_leaves_a_plan_and_its_distance_from_the_best(cli):
    run = cli(
        "plan", "llama3-70b", "--tp", "8", "--seq", "4096", "--budget", "70%", "--time-limit", "0.3"
    )
    assert run.code == 0, run.err
    assert re.search(
        r"^(Within [\d.e-]+ % of the time of an optimal step, proven|Proven optimal on every "
        r"rank)\.",
        run.out,
        re.M,
    )
    assert cli("plan", "llama3-8b", "--budget", "6GB", "--time-limit", "-1").code == 2


def test_check_without_a_file_prints_the_failure_table(cli):
    run = cli("check")
    assert run.code == 0
    for symptom in (
        "out of memory although recompute is on",
        "no saving at all",
        "slower than expected",
        "FP8",
    ):
        assert symptom in run.out


@pytest.mark.parametrize("arguments", [
    ("plan",),
    ("plan", "llama3-8b"),
    ("plan", "llama3-9b", "--budget", "6GB"),
    ("plan", "nowhere/config.json", "--budget", "6GB"),
    ("plan", "llama3-8b", "--budget", "lots"),
    ("plan", "llama3-8b", "--budget", "1MB"),
    ("plan", "llama3-8b", "--budget", "6GB", "--tp", "3"),
    ("plan", "llama3-8b", "--budget", "6GB", "--pp", "2", "--stages", "1,2,3"),
    ("plan", "llama3-8b", "--budget", "6GB", "--hardware", "abacus"),
    ("plan", "llama3-8b", "--budget", "6GB", "--options", "magic"),
    ("plan", "llama3-8b", "--budget", "nan%"),
    ("plan", "llama3-8b", "--budget", "150%"),
    ("plan", "x" * 300, "--budget", "6GB"),
    ("plan", "--num-layers 8 --hidden-size 64", "--budget", "6GB"),
    ("explain", "--recompute-granularity ful", "llama3-8b"),
    ("explain", "{\"rcore_policy\": 1,}", "llama3-8b"),
    ("check", "nowhere.yaml"),
    ("frobnicate",),
])
def test_bad_input_is_one_line_and_exit_code_two(cli, arguments):
    run = cli(*arguments)
    assert run.code == 2 and run.out == ""
    assert run.err.startswith("rcore: error: ") and run.err.count("\n") == 1, run.err


@pytest.mark.parametrize("arguments, told", [
    (("--budget", "1GB"),
     r"--budget: 1000000000 bytes \(1.00 GB\) on rank 0; the least .* is \d+ bytes \(\d.\d\d GB\)"),
    (("--budget", "0%"), r"--budget: '0%' is no percentage above 0% and at most 100%"),
    (("--budget", "6GB", "--tp", "3"), r"--tp: 3 does not divide num_attention_heads 32"),
    (("--budget", "6GB", "--pp", "5"), r"--pp 5: 32 layers do not spread evenly over 5 .*"),
    (("--budget", "6GB", "--hardware", "x"),
     r"--hardware: no built-in device \"x\" \(there are .*\)"),
    (("--budget", "6GB", "--options", "x"), r"--options: \"x\", must be one of .*"),
])
def test_what_is_wrong_is_named_as_the_user_wrote_it(cli, arguments, told):
    run = cli("plan", "llama3-8b", *arguments)
    assert run.code == 2 and re.fullmatch(f"rcore: error: {told}\n", run.err), run.err


def test_what_a_refused_budget_is_told_to_be_does(cli):
    told = cli("plan", "llama3-8b", "--budget", "1GB").err
    least = re.search(r"\((\S+) GB\)\n", told)[1]
    assert cli("plan", "llama3-8b", "--budget", f"{least}GB").code == 0


def test_a_folder_is_told_to_have_no_config(cli, tmp_path):
    run = cli("plan", tmp_path, "--budget", "6GB")
    assert run.code == 2 and "a folder without a config.json" in run.err


def test_an_argument_list_of_any_length_is_a_model(cli):
    flags = "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --seq-length 4096 "
    run = cli("plan", flags + "--swiglu " * 40 + "--ffn-hidden-size 14336", "--budget", "50%")
    assert run.code == 0 and "Proven optimal" in run.out, run.err


@pytest.mark.parametrize("options", ["recompute,offload", "offload,compress", "recompute,split"])
def test_explain_says_what_plan_said(cli, tmp_path, options):
    policy = tmp_path / "policy.json"
    where = ("llama3-8b", "--tp", "2", "--seq", "4096")
    plan = cli("plan", *where, "--budget", "80%", "--options", options, "--json", policy)
    worth = cli("explain", policy, *where)
    row = re.search(r"^ +0 +.*$", plan.out, re.M)[0].split()
    other = re.search(r"^ +0 +.*$", worth.out, re.M)[0].split()
    assert (row[2], row[4], row[6]) == (other[1], other[2], other[-1]), (plan.out, worth.out)
    assert row[6] != "0.00%"


def test_tables_keep_to_a_terminals_width(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    wide = cli("check").out
    assert max(map(len, wide.splitlines())) > 150
    monkeypatch.setenv("COLUMNS", "90")
    narrow = cli("check").out
    assert max(map(len, narrow.splitlines())) <= 90
    assert "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in narrow
    plan = cli("plan", "llama3-70b", "--tp", "8", "--budget", "30%").out
    rows = plan[:plan.index("Nearest")].splitlines()
    assert max(map(len, rows[2:])) <= 90 and re.search(r"x_in \d+/\d+,?$", plan, re.M)


def test_binary_and_broken_files_are_one_line(cli, tmp_path):
    for name, content in (
        ("a.yaml", b"\x00\xff\xfe"),
        ("b.yaml", b"a: [1,\n"),
        ("c.yaml", b"- 1\n"),
        ("d.json", b"{"),
        ("e.sh", b"--num-layers 'x"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        run = cli("plan", path, "--budget", "6GB")
        assert run.code == 2 and run.err.count("\n") == 1, (name, run)


def test_this_processor_is_measured(cli):
    pytest.importorskip("numpy")
    run = cli(
        "plan",
        "llama3-8b",
        "--budget",
        "60%",
        "--seq",
        "512",
        "--hardware",
        "cpu",
        "--options",
        "recompute",
    )
    assert run.code == 0 and "this processor" in run.out, run.err
