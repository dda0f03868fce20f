"""Layer `fixed` against the second implementation of fixed_oracle.py: integers, so equal.

The C++ side is the program elsa_fixed_jobs. A failure names the seed to repeat.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]

from fixed_oracle import Head, round_float, significant, two_to  # noqa: E402
from native_program import json_lines  # noqa: E402

SEEDS = 64


@pytest.fixture(scope="module")
def jobs() -> list[dict]:
    return json_lines("elsa_fixed_jobs", 0, SEEDS)


def wrong(head: Head, job: dict) -> str:
    """What differs first, or "" if nothing does."""
    kept, fallback = (None, None) if head.exact else head.select()
    if kept != job["kept"]:
        return "candidates"
    if fallback != job.get("fallback"):
        return "fallback"
    width = len(job["value"][0])
    unit = two_to(-head.c["qkv_fraction_bits"] - head.v_shift)
    for i in range(job["queries"]):
        here = slice(i * width, (i + 1) * width)
        if head.sees(i) == 0:
            if any(job["ascending"][here]):
                return f"zeros of query {i}"
            continue
        row = head.row(i, head.ascending(i, kept, fallback))
        if row != job["ascending"][here]:
            return f"row {i}"
        if [float(x * unit) for x in row] != job["stored"][here]:
            return f"stored row {i}"
        begin = job["order"]["begin"][i * head.c["banks"] : (i + 1) * head.c["banks"] + 1]
        order = [job["order"]["keys"][a:b] for a, b in zip(begin, begin[1:], strict=False)]
        if head.row(i, order) != job["ordered"][here]:
            return f"row {i} in another order"
    return ""


def test_whole_heads_equal_a_second_implementation(jobs):
    assert len(jobs) == SEEDS
    for job in jobs:
        assert wrong(Head(job), job) == "", f"elsa_fixed_jobs {job['seed']} 1"


def test_the_jobs_cover_every_kind(jobs):
    heads = [Head(job) for job in jobs]
    for kind in (
        [h for h in heads if h.exact],
        [h for h in heads if not h.exact and h.mean is not None],
        [h for h in heads if h.causal],
        [j for j in jobs if not all(j["visible"])],
        [j for j in jobs if any(f >= 0 for f in j.get("fallback", []))],
        [j for j in jobs if len(j["key"][0]) < j["config"]["d"] and not j["plan"]["exact"]],
        [j for j in jobs if j["config"]["accumulator"] == "float"],
        [j for j in jobs if j["config"]["accumulator"] == "integer"],
        *[
            [j for j in jobs if j["config"][f"{what}_rounding"] == mode]
            for what in ("qkv", "accumulator", "output")
            for mode in ("nearest_even", "nearest_up", "floor", "toward_zero")
        ],
    ):
        assert len(kind) >= 5


# A comparison that cannot fail proves nothing: every format, changed a little, must show.
@pytest.mark.parametrize(
    "field",
    [
        "qkv_fraction_bits",
        "hash_fraction_bits",
        "hash_stage_fraction_bits",
        "norm_bits",
        "sqrt_fraction_bits",
        "cosine_fraction_bits",
        "threshold_fraction_bits",
        "score_constant_bits",
        "float_fraction_bits",
        "accumulator_fraction_bits",
        "sum_fraction_bits",
        "reciprocal_fraction_bits",
    ],
)
def test_a_changed_format_is_noticed(jobs, field):
    noticed = 0
    for job in jobs[2:]:
        # Decisions hardly ever hang on one bit more; that so few are left, they all notice.
        coarse = ("norm_bits", "sqrt_fraction_bits", "cosine_fraction_bits")
        value = 2 if field in coarse else job["config"][field] + 1
        changed = {**job, "config": {**job["config"], field: value}}
        noticed += wrong(Head(changed), job) != ""
        if noticed == 2:
            return
    raise AssertionError(f"{field} changed: expected other values in 2 jobs, got {noticed}")


def test_the_second_implementation_rounds_as_documented():
    assert round_float(two_to(0) + two_to(-6), 10, 5, "nearest_even") == 1
    assert round_float(two_to(0) + two_to(-6), 10, 5, "nearest_up") == 1 + two_to(-5)
    assert round_float(-two_to(0) - two_to(-9), 10, 5, "floor") == -1 - two_to(-5)
    assert round_float(two_to(600), 10, 5, "floor") == (2 - two_to(-5)) * two_to(512)
    assert round_float(two_to(-511), 10, 5, "nearest_even") == 0
    assert significant(two_to(0) / 3, 9) == 341 * two_to(-10)
