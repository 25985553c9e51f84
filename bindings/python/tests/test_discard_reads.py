# tests/test_discard_reads.py: reads of a discarded output, in processes of their own: what
# goes wrong here is a crash.
from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import textwrap

import pytest

import rcore.torch  # noqa: F401

READS = {
    "an operator": "y.sum()",
    "an operator of torch.ops": "torch.ops.aten.exp(y)",
    "a list of tensors": "torch.cat([y, y])",
    "an index": "y[0]",
    "a view": "y.view(32)",
    "a detached alias": "y.detach()",
    "data": "y.data.sum()",
    "T": "y.T.sum()",
    "item": "y[0, 0].item()",
    "numpy": "y.numpy()",
    "array": "__import__('numpy').asarray(y)",
    "print": "repr(y)",
    "in place": "y.add_(1)",
    "out": "torch.add(torch.ones(4, 8), 1, out=y)",
    "an address": "y.data_ptr()",
    "dlpack": "torch.from_dlpack(y)",
    "pickle": "__import__('pickle').dumps(y)",
    "iteration": "list(y)",
    "a comparison": "bool(y[0, 0] > 0)",
}
PROGRAM = """
    import warnings
    import torch
    import rcore.torch as rt
    warnings.simplefilter("ignore", rt.KeptOutputWarning)
    norm, linear = torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(norm)
    y = discarded(x)
    want = norm(x).detach()
    {before}
    z = linear(y)
    print("freed", discarded.discard(z))
    try:
        {read}
    except rt.Error as error:
        assert "reads an output that was discarded" in str(error), error
        print("refused")
    z.sum().backward()
    assert torch.equal(y.detach(), want)
    print("done")
"""


def run_program(before: str, read: str) -> str:
    """In a process of its own: what goes wrong here is a crash."""
    code = textwrap.dedent(PROGRAM).format(before=before, read=read)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, f"{ran.returncode}: {ran.stderr}"
    return ran.stdout


def test_no_read_of_an_empty_output_gets_through():
    reads = "\n        ".join(
        f"try:\n            {read}\n            raise SystemExit({name!r})\n        except "
        f"rt.Error as e:\n"
        "            assert 'reads an output that was discarded' in str(e), e"
        for name, read in READS.items())
    assert run_program("", f"for _ in [0]:\n        {reads}".replace(
        "\n        ", "\n            ")) == "freed 128\ndone\n"


BYPASSES = {
    "an operator": "y + 1",
    "a sum": "y.sum()",
    "a copy": "torch.empty(4, 8).copy_(y)",
    "as a reader's input": "linear(y)",
    "a list": "torch.cat([y, y])",
    "a view": "y.view(32)",
    "a detached alias": "y.detach()",
    "data": "y.data",
    "a new storage": "y.set_(torch.empty(4, 8))",
    "an address": "y.data_ptr()",
    "numpy": "y.numpy()",
    "a list of numbers": "y.tolist()",
    "dlpack": "torch.from_dlpack(y)",
    "the C form of dlpack": "torch._C._to_dlpack(y)",
    "print": "repr(y)",
    "its storage": "y.untyped_storage()",
    "in place": "y.mul_(2)",
}


def test_reads_past_the_function_protocol_are_errors_too():
    read = f"""
        for name, code in {BYPASSES!r}.items():
            try:
                with torch._C.DisableTorchFunctionSubclass():
                    eval(code)
            except (RuntimeError, NotImplementedError, TypeError, BufferError):
                continue
            raise SystemExit(name)"""
    assert run_program("", read) == "freed 128\ndone\n"


EXTENSION = """
    #include <torch/csrc/autograd/python_variable.h>
    #include <ATen/core/Tensor.h>
    #include <ATen/ops/add.h>

    using at::Tensor;

    template <class Read>
    static int refused(PyObject* object, Read read) {
      try {
        volatile float value = *static_cast<const float*>(read(THPVariable_Unpack(object)));
        return value != value;
      } catch (const std::exception&) {
        PyErr_Clear();
        return 1;
      }
    }
    extern "C" int refused_reads(PyObject* y) {  // as kernels read, without the dispatcher
      return refused(y, [](const Tensor& t) { return t.data_ptr<float>(); }) +
             refused(y, [](const Tensor& t) { return t.const_data_ptr<float>(); }) +
             refused(y, [](const Tensor& t) { return t.const_data_ptr(); }) +
             refused(y, [](const Tensor& t) { return t.mutable_data_ptr(); }) +
             refused(y, [](const Tensor& t) { return t.storage().data(); }) +
             refused(y, [](const Tensor& t) { return at::add(t, 1).const_data_ptr(); });
    }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="an extension of C++ needs a compiler")
def test_reads_by_an_extension_of_cpp_are_errors_too(tmp_path):
    from torch.utils import cpp_extension

    (tmp_path / "read.cc").write_text(textwrap.dedent(EXTENSION))
    includes = [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]
    folder = cpp_extension.library_paths()[0]
    subprocess.run([
        "g++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC", "read.cc", "-o", "read.so",
        *(f"-I{i}" for i in includes), f"-L{folder}", f"-Wl,-rpath,{folder}", "-ltorch_python",
        "-ltorch_cpu", "-lc10"
    ], cwd=tmp_path, check=True)
    program = textwrap.dedent(f"""
        read = __import__("ctypes").PyDLL({str(tmp_path / "read.so")!r}).refused_reads
        read.argtypes = [__import__("ctypes").py_object]
        assert read(want) == 0
        assert read(y) == 6, read(y)""")
    assert run_program("", textwrap.indent(program, " " * 8)) == "freed 128\ndone\n"


VIEWS = {
    "a part": ("v = y[1:]", "assert torch.equal(v, want[1:])"),
    "a detached alias": ("v = y.detach()", "assert v.sum().item() == want.sum().item()"),
    "an element": ("v = y[0, 0]", "assert v.item() == want[0, 0].item()"),
    "numpy": ("v = y.detach().numpy()", "assert v[0, 0] == want[0, 0].item()"),
    "dlpack": ("v = torch.from_dlpack(y.detach())", "assert torch.equal(v, want)"),
    "a storage of its own": (
        "v = torch.empty(0).set_(y.untyped_storage(), 0, (4, 8))", "assert torch.equal(v, want)"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_an_output_of_which_the_program_has_a_view_keeps_its_bytes(name):
    assert run_program(*VIEWS[name]) == "freed 0\ndone\n"
