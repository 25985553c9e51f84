# tests/plan/test_models.py: models in every spelling are the same model.
from __future__ import annotations

import json
import pathlib

import pytest

from rcore.plan import describe_inventory
from rcore.plan.errors import InputError
from rcore.plan.megatron import read_settings
from rcore.plan.models import find_model
from rcore.plan.pipeline_layout import layers_per_stage


def classes(model, **layout):
    inventory = describe_inventory(
        {"rcore_plan": 1, "model": model, "layout": {"seq_length": 4096, **layout}}
    )
    return {c["name"]: c["bytes"] / 4096 for c in inventory["classes"]}


@pytest.mark.parametrize("file, built_in, per_token", [
    ("llama.config.json", "llama3-8b", {"dense": 139264}),
    ("mixtral.config.json", "mixtral-8x7b", {"moe": 241664}),
    ("deepseek.config.json", "deepseek-v3", {"dense": 340224, "moe": 454912}),
])
def test_config_json_is_the_built_in_model(fixtures, file, built_in, per_token):
    subject = find_model(str(fixtures / file))
    assert classes(subject.model) == classes(built_in) == per_token


def test_config_json_without_sizes_is_refused_by_name(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "vit", "hidden_size": 768}))
    with pytest.raises(InputError, match="num_hidden_layers"):
        find_model(str(path))


@pytest.mark.parametrize("text, layers", [
    ("Et*3|(tt|)*6tmL", [3, 2, 2, 2, 2, 2, 2, 1]),
    ("Et*2|(tt|)*5t|tmL", [2, 2, 2, 2, 2, 2, 1, 1]),
    ("E|(t|)*4L", [0, 1, 1, 1, 1, 0]),
    ("Etttt|tttt|ttttL", [4, 4, 4]),
])
def test_pipeline_layouts(text, layers):
    assert layers_per_stage(text) == layers


def test_pipeline_layout_with_other_letters_is_refused():
    with pytest.raises(InputError, match="only E, t, m, L"):
        layers_per_stage("Ex|tL")


SPELLINGS = {
    "a.sh": "--num-layers 8 --hidden-size 64 --num-attention-heads 4 --swiglu --recompute-modules "
    "layernorm moe_act \\\n"
    "  --tensor-model-parallel-size=2  # two\n",
    "a.yaml": "MODEL_ARGS:\n  --num-layers: 8\n  --hidden-size: 64\n  --num-attention-heads: 4\n  "
    "--swiglu: true\n"
    '  --recompute-modules: "[layernorm moe_act]"\n  --tensor-model-parallel-size: 2\n',
    "b.yaml": "language_model:\n  num_layers: 8\n  hidden_size: 64\n  num_attention_heads: 4\n  "
    "gated_linear_unit: true\n"
    "  recompute_modules: [layernorm, moe_act]\nmodel_parallel:\n  tensor_model_parallel_size: 2\n",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_settings_in_every_spelling(name):
    s = read_settings(SPELLINGS[name], name)
    assert (s.count("num_layers"), s.get("swiglu"), s.get("recompute_modules")) == (
        8,
        True,
        ["layernorm", "moe_act"],
    )
    assert s.layout()["tensor_model_parallel_size"] == 2
    assert s.model()["ffn_hidden_size"] == 128


def test_layer_frequencies_are_evaluated_but_not_code():
    base = (
        "--num-layers 4 --hidden-size 64 --num-attention-heads 4 --num-experts 4 --moe-layer-freq "
    )
    assert read_settings(base + "'([0]*1+[1]*3)'", "x").model()["moe_layer_freq"] == [0, 1, 1, 1]
    assert read_settings(base + "2", "x").model()["moe_layer_freq"] == [1, 0, 1, 0]
    for bad in ("'__import__(\"os\")'", "'[1]*99999999'", "'[0,1]'"):
        with pytest.raises(InputError):
            read_settings(base + bad, "x").model()


def test_a_pipeline_without_layers_is_remarked_and_not_refused():
    settings = read_settings("--pipeline-model-parallel-size 2 --hybrid-override-pattern M-M*", "x")
    assert (
        "pipeline_model_parallel_size" not in settings.policy()
        and "num_layers is not set" in settings.remarks[0]
    )


def test_what_a_script_assigns_is_expanded():
    text = (
        "TP=4\nPP=${PP:-2}\nARGS=(\n  --tensor-model-parallel-size $TP\n  "
        "--pipeline-model-parallel-size ${PP:-2}\n)\n"
        "DATA_ARGS=(\n  --data-path $DATA\n)\ntorchrun pretrain.py ${ARGS[@]}\n"
    )
    layout = read_settings(text, "x.sh").layout()
    assert (layout["tensor_model_parallel_size"], layout["pipeline_model_parallel_size"]) == (4, 2)


def test_embedding_and_loss_count_as_layers_where_the_split_says_so():
    s = read_settings(
        "--num-layers 6 --pipeline-model-parallel-size 4 --num-layers-per-virtual-pipeline-stage 1 "
        "--account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split",
        "x",
    )
    assert s.layout()["layers_per_virtual_stage"] == [0, 1, 1, 1, 1, 1, 1, 0]


def test_sequence_parallel_without_tensor_parallel_is_off_as_in_megatron():
    assert (
        "sequence_parallel" not in read_settings("--sequence-parallel --num-layers 2", "x").layout()
    )


def test_every_fixture_parses(fixtures: pathlib.Path):
    for path in fixtures.iterdir():
        find_model(str(path))
