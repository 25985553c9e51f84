# tests/test_checkpoint_errors.py: torch's phrases, checks of one's own, values verified.
from __future__ import annotations

import contextlib

import pytest
import torch.utils.checkpoint as stock

import rcore
import rcore.torch as rt
from regions import changing, ours, theirs, x4


ERRORS = [
    (lambda v: v.sin().cos().exp(), lambda v: v.sin(), {},
     "A different number of tensors was saved"),
    (lambda v: v.sin(), lambda v: v.sin().cos().exp(), {"early_stop": False},
     "trying to save more tensors during recomputation"),
    (lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos(), {},
     "Recomputed values for the following tensors have different metadata"),
    (lambda v: v.sin().cos(), lambda v: v.double().sin().cos(), {},
     "Recomputed values for the following tensors have different metadata"),
]


@pytest.mark.parametrize("first, second, options, phrase", ERRORS)
def test_errors_have_torchs_phrases_and_one_class(first, second, options, phrase):
    of_ours = (rt.CheckpointError, stock.CheckpointError, rcore.Error)
    for call, kinds in ((theirs, (stock.CheckpointError,)), (ours, of_ours)):
        x = x4()
        out = call(changing(first, second), x, **options)
        with pytest.raises(RuntimeError, match=phrase) as caught:
            out.sum().backward()
        assert isinstance(caught.value, kinds)
        assert all(isinstance(caught.value, kind) for kind in kinds)


def test_a_metadata_error_shows_both_and_the_position():
    x = x4()
    out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos()), x)
    with pytest.raises(
            rt.CheckpointError,
            match=r"position 1:\nsaved metadata: \{'shape': \(4, 4\).*\nrecomputed metadata: "
            r"\{'shape': torch.Size\(\[2, 4\]\)"):
        out.sum().backward()


def test_the_check_can_be_turned_off():
    x = x4()
    out = ours(changing(lambda v: v.sin(), lambda v: v.double().sin()), x, determinism_check="none")
    with contextlib.suppress(RuntimeError):  # autograd itself may refuse the other dtype, we do not
        out.sum().backward()
    with pytest.raises(ValueError, match="determinism_check should be one of"):
        ours(lambda v: v.sin(), x, determinism_check="nonsense")


def test_a_check_of_ones_own():
    x = x4()
    f = changing(lambda v: v.sin().cos(), lambda v: v.sin().add(1).cos())
    out = ours(f, x, determinism_check=lambda t: float(t.sum()))
    with pytest.raises(rt.CheckpointError, match="different metadata"):
        out.sum().backward()


def test_verify_names_module_and_operator():
    x = x4()
    good = ours(lambda v: (v.sin() * v).exp(), x, determinism_check="verify")
    good.sum().backward()
    function = changing(lambda v: v.sin().cos().exp(), lambda v: v.sin().add(1e-6).cos().exp())
    out = ours(function, x, determinism_check="verify")
    said = r"(?s)module 'checkpoint'.*saved tensor 1, made by aten.sin.default"
    with pytest.raises(rt.CheckpointError, match=said) as caught:
        out.sum().backward()
    assert caught.value.status == "RC_E_MISMATCH"


def test_debug_lists_the_operators_of_both_runs():
    x = x4()
    f = changing(lambda v: v.sin().cos().exp(), lambda v: v.sin())
    out = ours(f, x, debug=True)
    with pytest.raises(rt.CheckpointError) as caught:
        out.sum().backward()
    text = str(caught.value)
    assert ("Operations executed during the original forward:\n\naten.sin.default\n"
            "aten.cos.default\naten.exp.default") in text
    assert "Operations executed during recomputation:\n\naten.sin.default\n" in text
    assert __file__ in text
    with pytest.raises(ValueError, match="incompatible with non-default context_fn"):
        nothing = contextlib.nullcontext()
        ours(f, x, debug=True, context_fn=lambda: (nothing, nothing))
    with rt.set_checkpoint_debug_enabled(True):
        out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()), x)
    with pytest.raises(rt.CheckpointError, match="Operations executed"):
        out.sum().backward()
