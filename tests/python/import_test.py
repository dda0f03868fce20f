"""What importing the package brings in, and what its interface promises."""

import ast
import importlib.metadata
import importlib.resources
import inspect
import subprocess
import sys

import pytest

import elsa_attention as ea
from elsa_attention import _core


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_importing_needs_numpy_only():
    loaded = run(
        "import sys; before = set(sys.modules); import numpy; numpys = set(sys.modules);"
        "import elsa_attention; print(*(set(sys.modules) - numpys))"
    )
    ours = {name for name in loaded if name.partition(".")[0] == "elsa_attention"}
    standard = {name for name in loaded if name.partition(".")[0].lstrip("_") in STANDARD}
    assert "elsa_attention._core" in ours
    assert set(loaded) - ours - standard == set()


STANDARD = {name.lstrip("_") for name in sys.stdlib_module_names} | {"nanobind"}


def test_numpy_calls_do_not_load_torch():
    code = (
        "import sys, numpy, elsa_attention as ea; x = numpy.ones((1, 1, 2, 4), 'f');"
        "ea.calibrate([(0, x, x, x)], p=1).to_json(); ea.attention(x, x, x);"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run(code) == ["False", "False"]


def test_the_interface_is_documented_and_typed():
    for name in ea.__all__:
        thing = getattr(ea, name)
        if callable(thing) and thing.__module__ != "elsa_attention._core":
            assert inspect.getdoc(thing), name
    for function in (ea.attention, ea.calibrate, ea.calibrate_many, ea.explain, ea.apply):
        signature = inspect.signature(function)
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
        assert signature.return_annotation is not signature.empty
    assert importlib.resources.files(ea).joinpath("py.typed").is_file()


def test_attention_has_the_words_of_torch_in_the_order_of_the_contract():
    names = list(inspect.signature(ea.attention).parameters)
    assert names[:7] == "query key value attn_mask is_causal scale enable_gqa".split()
    torch = pytest.importorskip("torch")
    words = torch.nn.functional.scaled_dot_product_attention.__doc__
    assert all(name in words for name in names[:7])


def test_the_stub_names_what_the_extension_has():
    tree = ast.parse(importlib.resources.files(ea).joinpath("_core.pyi").read_text())
    stub = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            stub[node.name] = {arg.arg for arg in node.args.args}
        elif isinstance(node, ast.ClassDef):
            stub[node.name] = {
                n.name if isinstance(n, ast.FunctionDef) else n.target.id
                for n in node.body
                if isinstance(n, ast.FunctionDef | ast.AnnAssign)
            }
    real = {name for name in vars(_core) if not name.startswith("_")}
    assert set(stub) == real
    for name in real:
        thing = getattr(_core, name)
        if inspect.isclass(thing):
            members = {m for m in vars(thing) if not m.startswith("_")}
            assert {m for m in stub[name] if not m.startswith("_")} == members, name


def test_versions_agree():
    try:
        version = importlib.metadata.version("elsa-attention")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert version == ea.__version__
