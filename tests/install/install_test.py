"""The wheel, installed into a fresh environment that has no torch.

The first half reuses the build folder of `make build`; the slow lane installs from nothing, as a
user does.
"""

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "pip install 'elsa-attention[models]'"


def run(*command, check=True, **options):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ELSA"))}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=clean | options.pop("env", {}),
        **options,
    )
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    for module in ("scikit_build_core", "nanobind"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "-w", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def venv(wheel, tmp_path_factory):
    """The bin folder of a new environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "--python", folder / "bin/python", "install", wheel)
    return folder / "bin"


def check_installed(venv):
    """What must hold in every environment with the package but without torch."""
    code = (
        "import importlib.util as u, numpy as np, elsa_attention as ea;"
        "assert not u.find_spec('torch') and not u.find_spec('transformers');"
        "x = np.ones((1, 2, 5, 8), 'f'); plan = ea.calibrate([(0, x, x, x)], p=1);"
        "assert np.allclose(ea.attention(x, x, x, plan=plan), 1)"
    )
    run(venv / "python", "-c", code, cwd=venv)
    assert (venv / "elsa").read_bytes()[:4] == b"\x7fELF"
    path = {"PATH": f"{venv}:{os.environ['PATH']}"}
    told = run("elsa", "--help", env=path, cwd=venv).stdout
    for command in ("calibrate", "attend", "inspect", "params", "capture", "evaluate"):
        assert command in told
    assert run("elsa", "params", "--json", env=path, cwd=venv).stdout.startswith("{")


def test_the_wheel_holds_what_it_should_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
        names = archive.namelist()
        (metadata,) = (n for n in names if n.endswith("dist-info/METADATA"))
        told = email.message_from_bytes(archive.read(metadata))
    (script,) = (n for n in names if ".data/" in n)
    assert script.endswith(".data/scripts/elsa")
    package = [n for n in names if n.startswith("elsa_attention/")]
    assert {n.partition("/")[0] for n in names} == {
        "elsa_attention", metadata.partition("/")[0], script.partition("/")[0],
    }  # fmt: skip
    assert sum(n.endswith(".so") for n in names) == 1
    assert {"elsa_attention/py.typed", "elsa_attention/_core.pyi"} <= set(package)
    # The library for C and C++ programs: headers, one shared library, its CMake package.
    assert [n for n in package if ".so." in n] == ["elsa_attention/lib/libelsa.so.1"]
    assert "elsa_attention/include/elsa/elsa_c.h" in package
    assert "elsa_attention/lib/cmake/elsa/elsaConfig.cmake" in package
    library = {n.rpartition(".")[2] for n in package if n.split("/")[1] in ("include", "lib")}
    assert library == {"h", "cmake", "1"}
    rest = {n.rpartition(".")[2] for n in package if n.split("/")[1] not in ("include", "lib")}
    assert rest <= {"py", "pyi", "typed", "so", "toml"}
    # The kernels of six instruction sets, in the module, the program and the library.
    assert sum(info.compress_size for info in infos) < 12e6
    machines = {n.rpartition("/")[2] for n in package if n.endswith(".toml")}
    assert machines == {path.name for path in (ROOT / "configs").iterdir()}
    assert told["Name"] == "elsa-attention" and told["License-Expression"] == "Apache-2.0"
    assert any(n.endswith("/LICENSE") for n in names)
    needed = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert [line.partition(">")[0] for line in needed] == ["numpy"]


def test_it_works_without_torch(venv):
    check_installed(venv)


def test_the_example_runs(venv):
    told = run(venv / "python", ROOT / "examples/python/attention.py", cwd=venv).stdout
    kept, error = re.fullmatch(r"kept ([\d.]+)% of the keys, relative error (\S+)\n", told).groups()
    assert 1 < float(kept) < 60 and float(error) < 0.5


def test_c_programs_find_the_library_of_the_wheel(venv, tmp_path):
    # By the prefix that scikit-build-core gives to every project that it builds.
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    packages = run(venv / "python", "-c", code).stdout.strip()
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(p C)\n"
        "find_package(elsa 0.1 REQUIRED)\n"
        f"add_executable(p {ROOT / 'examples/c/attention.c'})\n"
        "target_link_libraries(p PRIVATE elsa::elsa m)\n"
    )
    build = tmp_path / "build"
    options = ["-G", "Ninja", f"-DCMAKE_PREFIX_PATH={packages}"]
    run("cmake", "-S", tmp_path, "-B", build, *options)
    run("cmake", "--build", build)
    assert "head 1: 4096 of 4096 keys" in run(build / "p").stdout


@pytest.mark.parametrize("command", ["bench", "capture", "evaluate"])
def test_commands_that_need_more_say_what_to_install(venv, command):
    options = ["--quick"] if command == "bench" else ["--model", "minilm"]
    if command == "capture":
        options += ["--text", "text.txt", "-o", "trace.safetensors"]
    for program in ([venv / "elsa", command], [venv / f"elsa-{command}"]):
        done = run(*program, *options, check=False, cwd=venv)
        assert done.returncode == 2
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert EXTRAS in done.stderr
    assert not (venv / "trace.safetensors").exists()


@pytest.mark.slow
def test_pip_install_from_the_sources_needs_nothing_prepared(tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = tmp_path / "venv/bin/pip"
    run(pip, "install", "--disable-pip-version-check", "-C", f"build-dir={tmp_path}/build", ROOT)
    check_installed(tmp_path / "venv/bin")
