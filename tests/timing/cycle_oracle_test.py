"""Cycles and order of candidates of `sim` against the second implementation of cycle_oracle.py.

The C++ side is the program elsa_timed_works. A failure names the seed to repeat.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]

from cycle_oracle import Machine  # noqa: E402
from native_program import json_lines  # noqa: E402

SEEDS = 400


@pytest.fixture(scope="module")
def cases() -> list[dict]:
    return json_lines("elsa_timed_works", 0, SEEDS)


def test_every_cycle_and_every_order_are_those_of_the_document(cases):
    assert len(cases) == SEEDS
    for case in cases:
        preprocess, execute, order = Machine(case).run()
        got = (case["preprocess_cycles"], case["execute_cycles"], case["order"])
        assert (preprocess, execute, order) == got, f"seed {case['seed']}"


def test_the_oracle_notices_another_machine(cases):
    noticed = 0
    for case in cases[:100]:
        for change in ("queue_depth", "query_buffers", "selectors_per_bank"):
            other = case | {"machine": case["machine"] | {change: case["machine"][change] + 1}}
            noticed += Machine(other).run()[1:] != (case["execute_cycles"], case["order"])
    assert noticed > 60
