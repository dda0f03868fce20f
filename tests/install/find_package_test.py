"""The library as another project uses it: installed, found by CMake and pkg-config, linked.

Installs the release build of this checkout ($ELSA_BUILD_DIR) and builds what is in examples/.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ELSA_BUILD_DIR", ROOT / "build/release"))


def run(*command, env=None, cwd=None):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What `cmake --install` made, moved away from where it was installed."""
    targets = ["elsa", "elsa_shared", "elsa_static"]
    run("cmake", "--build", BUILD, "--target", *targets)
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", BUILD, "--prefix", folder / "first", "--strip")
    return shutil.move(folder / "first", folder / "moved")


@pytest.fixture(scope="module")
def examples(prefix, tmp_path_factory):
    """The folder of the example programs."""
    folder = tmp_path_factory.mktemp("examples")
    source = ROOT / "examples/cpp"
    # Unoptimised: the headers are what takes the time.
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_CXX_FLAGS=-O0 -Wall -Wextra -Werror"]
    run("cmake", "-G", "Ninja", "-S", source, "-B", folder, *options)
    run("cmake", "--build", folder)
    return folder


def library(prefix):
    (path,) = prefix.glob("lib*/libelsa.so.*")
    return path


def test_the_prefix_holds_program_library_headers_and_packages(prefix):
    files = {str(p.relative_to(prefix)) for p in prefix.rglob("*") if not p.is_dir()}
    abi = re.search(r"ELSA_ABI_VERSION (\d+)", (ROOT / "src/elsa/elsa_c.h").read_text()).group(1)
    lib = library(prefix).parent.name
    others = {name for name in files if not name.startswith("include/")}
    cmake = {"elsaConfig", "elsaConfigVersion", "elsaTargets", "elsaTargets-release"}
    assert others == {
        "bin/elsa",
        *(f"{lib}/{name}" for name in ("libelsa.so", f"libelsa.so.{abi}", "libelsa.a")),
        f"{lib}/pkgconfig/elsa.pc",
        *(f"{lib}/cmake/elsa/{name}.cmake" for name in cmake),
    }
    headers = files - others
    assert {"include/elsa/elsa.h", "include/elsa/elsa_c.h"} <= headers
    assert "include/elsa/cpu/kv_cache.h" in headers
    assert not [name for name in headers if not name.endswith(".h") or "testing" in name]
    # Nothing knows where it was built or first installed.
    for path in prefix.rglob("*.cmake"):
        assert str(ROOT) not in path.read_text() and "/first" not in path.read_text()


def test_the_library_shows_its_own_names_only(prefix):
    named = run("readelf", "--dynamic", library(prefix))
    assert f"Library soname: [{library(prefix).name}]" in named
    symbols = run("nm", "--dynamic", "--defined-only", "--demangle", library(prefix))
    names = [line.split(maxsplit=2)[2] for line in symbols.splitlines()]
    c_names = {name for name in names if re.fullmatch(r"elsa_\w+", name)}
    header = (ROOT / "src/elsa/elsa_c.h").read_text()
    declared = set(re.findall(r"^ELSA_C_API[^;]*?\b(elsa_\w+)\(", header, re.MULTILINE | re.DOTALL))
    assert c_names == declared and len(declared) > 30
    ours = re.compile(r"((typeinfo|typeinfo name|vtable|guard variable) for )?elsa::")
    rest = [name for name in names if name not in c_names and not ours.match(name)]
    assert not rest, rest[:5]
    assert not [name for name in names if re.search(r"elsa::(capi|cpu::avx)", name)]
    assert "elsa::cpu::Attend(" in symbols and "elsa::cpu::KvCache::Append(" in symbols
    # What crosses the border by its type: errors that are caught, executors that are derived from.
    assert {"typeinfo for elsa::Error", "typeinfo for elsa::cpu::Executor"} <= set(names)


def test_cpp_examples_build_and_run(examples):
    told = run(examples / "attention")
    kept, error = re.search(r"kept ([\d.]+) % of the keys, relative error (\S+)", told).groups()
    assert 1 < float(kept) < 60 and float(error) < 0.5
    assert run(examples / "attention_static") == told
    tokens = run(examples / "decode")
    assert tokens.startswith("50 tokens, 220 keys in ")


def test_the_c_example_builds_with_cmake_and_with_pkg_config(prefix, examples, tmp_path):
    told = run(examples / "attention_c")
    assert told.startswith("ELSA 0.1.0 on ")
    assert "head 1: 4096 of 4096 keys" in told
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    lib = library(prefix).parent
    env = {"PKG_CONFIG_PATH": str(lib / "pkgconfig"), "LD_LIBRARY_PATH": str(lib)}
    assert run("pkg-config", "--modversion", "elsa", env=env).strip() == "0.1.0"
    strict = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    source = ROOT / "examples/c/attention.c"
    flags = run("pkg-config", "--cflags", "--libs", "elsa", env=env).split()
    run("cc", *strict, source, *flags, "-lm", "-o", tmp_path / "shared")
    assert run(tmp_path / "shared", env=env) == told
    # Without the shared library in sight, --static's flags are enough for the C compiler.
    (lib / "libelsa.so").rename(lib / "hidden")
    try:
        flags = run("pkg-config", "--static", "--cflags", "--libs", "elsa", env=env).split()
        run("cc", source, *flags, "-o", tmp_path / "static")
    finally:
        (lib / "hidden").rename(lib / "libelsa.so")
    assert run(tmp_path / "static") == told


def test_the_c_example_says_what_is_wrong_with_a_plan(examples, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    done = subprocess.run([examples / "attention_c", plan], capture_output=True, text=True)
    assert done.returncode == 1
    assert "invalid_format" in done.stderr and str(plan) in done.stderr


def test_another_version_is_not_found(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(p C)\nfind_package(elsa 0.2)\n"
        "message(STATUS found=${elsa_FOUND})\n"
    )
    build = tmp_path / "build"
    told = run("cmake", "-S", tmp_path, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "found=0" in told


def test_the_blocks_of_the_guide_compile_and_run(prefix, tmp_path):
    guide = (ROOT / "docs/guide/cpp.md").read_text()
    lib = library(prefix).parent
    for language, compiler, headers in (
        ("cpp", ["c++", "-std=c++20"], ["elsa/elsa.h", "cmath", "cstdio", "string", "vector"]),
        ("c", ["cc", "-std=c99", "-pedantic-errors"], ["elsa/elsa_c.h", "stdio.h"]),
    ):
        blocks = re.findall(rf"^```{language}\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
        assert blocks
        source = tmp_path / f"guide.{language}"
        include = "".join(f"#include <{name}>\n" for name in headers)
        body = "\n".join(blocks)
        source.write_text(f"{include}int main(void) {{\n{body}\nreturn 0;\n}}\n")
        link = [f"-I{prefix / 'include'}", f"-L{lib}", "-lelsa", f"-Wl,-rpath,{lib}"]
        run(*compiler, source, *link, "-o", tmp_path / language)
        run(tmp_path / language)
