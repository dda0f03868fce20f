# make build | demo | test | test-all | bench | format      (README.md says what they do)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build native python demo bench test test-cpp test-neon test-python test-all test-asan \
        test-tsan test-clang test-slow format lint clean

STAMPS := build/stamps
PYTHON := .venv/bin/python
# What the Python package is built from: when one of these is newer, it is installed again.
PACKAGE_SOURCES := $(shell find src python tools cmake configs data -type f -not -name '*_test.cc' \
                     -not -path '*/__pycache__/*' 2>/dev/null) \
                   CMakeLists.txt layers.txt pyproject.toml README.md LICENSE

# The CLI, the tests and the package are built from the same sources with the same flags: a compiler
# cache compiles them once. It looks at the compiler's name too. Looked for when a recipe runs, as
# the first ones may install it.
export CXX
export CMAKE_CXX_COMPILER_LAUNCHER ?= $(shell command -v ccache)
export CCACHE_BASEDIR ?= $(CURDIR)
export CCACHE_NOHASHDIR ?= 1

# ctest of a preset into a log: the closing lines if it is green, all of it if not.
run_ctest = ctest --preset $(1) -j 2 > $(2) 2>&1 || { cat $(2); exit 1; }; tail -n 8 $(2)

build: native python

$(STAMPS)/debian: requirements/debian.txt scripts/setup.sh
	@scripts/setup.sh debian $<
	@mkdir -p $(@D) && touch $@

$(STAMPS)/debian-slow: requirements/debian-slow.txt scripts/setup.sh
	@scripts/setup.sh debian $<
	@mkdir -p $(@D) && touch $@

.venv/.installed: requirements/python.txt requirements/data.txt | $(STAMPS)/debian
	@scripts/setup.sh python
	@touch $@

build/%/build.ninja: CMakePresets.json | $(STAMPS)/debian
	@cmake --preset $* > /dev/null

# The CLI is build/release/elsa. Commands that live in Python stand beside it as links.
native: build/release/build.ninja
	@cmake --build --preset release --target elsa -- --quiet

.venv/.package: $(PACKAGE_SOURCES) | .venv/.installed
	@echo "build: installing the Python package into .venv" >&2
	@$(PYTHON) -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps \
	  --force-reinstall .
	@mkdir -p build/release
	@for command in .venv/bin/elsa-*; do ln -sf "../../$$command" build/release/; done
	@touch $@

python: .venv/.package

demo: build
	@$(PYTHON) -m elsa_attention.demo --out out/demo

# The peers of `elsa bench`; numpy and torch stay those of requirements/python.txt.
.venv/.bench: requirements/bench.txt | .venv/.installed
	@echo "bench: installing its peers into .venv" >&2
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c requirements/python.txt -r $<
	@touch $@

# BENCH: options, as BENCH=--quick; build/release/elsa bench --help lists them.
bench: build .venv/.bench
	@build/release/elsa bench $(BENCH)

test: test-cpp test-neon test-python
	@python3 scripts/check_test_counts.py tests/expected_counts.json \
	  build/ctest.log build/ctest-neon.log build/pytest.log

test-cpp: native
	@cmake --build --preset release -- --quiet
	@$(call run_ctest,release,build/ctest.log)

# The CPU engine for 64-bit Arm, under qemu-user; random tests repeat less often.
test-neon: build/neon/build.ninja
	@cmake --build --preset neon -- --quiet
	@$(call run_ctest,neon,build/ctest-neon.log)

test-python: build
	@$(PYTHON) -m pytest -m "not slow" 2>&1 | tee build/pytest.log

# The slower lanes: style, sanitizers, the second compiler, a fresh installation, real models.
test-all: test lint test-asan test-tsan test-clang test-slow

test-asan test-tsan: test-%: build/%/build.ninja | $(STAMPS)/debian-slow
	@cmake --build --preset $* -- --quiet
	@$(call run_ctest,$*,build/ctest-$*.log)

test-clang: $(STAMPS)/debian-slow
	@cmake --preset clang > /dev/null
	@cmake --build --preset clang -- --quiet
	@$(call run_ctest,clang,build/ctest-clang.log)
	@ELSA_OTHER_CLI=build/clang/elsa $(PYTHON) -m pytest -m "slow" tests/cli

test-slow: build
	@$(PYTHON) -m pytest -m "slow" tests/install tests/python

lint: native .venv/.installed | $(STAMPS)/debian-slow
	@$(PYTHON) -m pytest tests/lint
	@clang-format --dry-run -Werror $$(git ls-files '*.h' '*.cc')

format: .venv/.installed | $(STAMPS)/debian-slow
	@$(PYTHON) -m ruff format python tests scripts
	@clang-format -i $$(git ls-files '*.h' '*.cc')

clean:
	@rm -rf build out
