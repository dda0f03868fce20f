"""elsa-bench: wrong results are never timed, ratios are of the same round, the report adds up."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest

import elsa_attention as ea

torch = pytest.importorskip("torch")

from elsa_attention.bench import cases, masks, measure, peers, report, run, truth  # noqa: E402
from elsa_attention.commands.bench import main  # noqa: E402


class FakeClock:
    """Time that passes only while contestants work."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def contestant(self, name, durations):
        """Its n-th call takes the n-th duration, the last one for ever."""
        durations = list(durations)

        def work():
            self.log.append(name)
            self.now += durations.pop(0) if len(durations) > 1 else durations[0]

        return work


def test_contestants_take_turns():
    clock = FakeClock()
    field = {name: clock.contestant(name, [0.1]) for name in "abc"}
    measure.time_in_turns(field, rounds=3, clock=clock)
    assert "".join(clock.log) == "aabbcc" + "abc" * 3  # warm-up, then rounds


def test_times_are_per_call_and_short_calls_are_settled_and_repeated():
    clock = FakeClock()
    field = {"short": clock.contestant("s", [1e-3]), "long": clock.contestant("l", [0.5])}
    times = measure.time_in_turns(field, rounds=2, clock=clock)
    assert times["short"] == pytest.approx([1e-3] * 2) and times["long"] == pytest.approx([0.5] * 2)
    assert "".join(clock.log[4:]).count("s") / 2 == 40 + 5  # 40 ms untimed, 5 ms timed


def test_ratios_are_of_the_same_round():
    clock = FakeClock()
    # From the second round on the machine is three times as slow, for both.
    field = {
        "peer": clock.contestant("p", [0.2, 0.2, 0.2, 0.6]),
        "ours": clock.contestant("o", [0.1, 0.1, 0.1, 0.3]),
    }
    times = measure.time_in_turns(field, rounds=5, clock=clock)
    assert times["peer"][0] < times["peer"][1]
    spread = measure.paired_ratio(times["peer"], times["ours"])
    assert (spread.median, spread.p10, spread.p90) == pytest.approx((2, 2, 2))


def test_rounds_fill_the_time_within_bounds():
    def rounds(duration, seconds):
        clock = FakeClock()
        field = {"a": clock.contestant("a", [duration])}
        return len(measure.time_in_turns(field, seconds=seconds, clock=clock)["a"])

    assert rounds(0.5, 10) == 20
    assert rounds(9.0, 10) == measure.MIN_ROUNDS
    assert rounds(0.1, 1000) == measure.MAX_ROUNDS


def test_garbage_is_not_collected_meanwhile_and_collected_again_afterwards():
    seen = []

    def work():
        seen.append(gc.isenabled())
        if len(seen) == 5:
            raise KeyboardInterrupt

    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        measure.time_in_turns({"a": work}, rounds=9)
    assert seen == [False] * 5 and gc.isenabled()


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_spreads_equal_numpys_percentiles(count):
    values = np.random.default_rng(count).random(count)
    spread = measure.Spread.of(list(values))
    expected = np.percentile(values, [50, 10, 90])
    assert (spread.median, spread.p10, spread.p90) == pytest.approx(tuple(expected))


def small_problem(kept=(0.2,), n=40, causal=False, heads=4, kv_heads=2, remainder=None):
    case = cases.Case("random", 1, n, n, 16, heads, kv_heads, causal)
    return cases.make(case, kept, remainder, seed=3)


class Fake(peers.Contestant):
    """Computes exact attention, then spoils it."""

    def __init__(self, problem, spoil, precision="float32"):
        self.name, self.precision = "fake", precision
        self._problem, self._spoil = problem, spoil

    def run(self):
        call = self._problem.calls[0]
        out = torch.nn.functional.scaled_dot_product_attention(
            call.q, call.k, call.v, is_causal=self._problem.case.causal, enable_gqa=True
        )
        self._out = self._spoil(out)

    def results(self):
        return [self._out]


def one_wrong_row(out):
    out[0, 1, 17] = out[0, 1, 18]
    return out


def one_nan(out):
    out[0, 0, 3, 5] = torch.nan
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_a_right_contestant_will_be_timed(causal):
    problem = small_problem(causal=causal)
    field = run.Field(problem)
    field.enter("fake", lambda: Fake(problem, lambda out: out))
    assert [c.name for c in field.right] == ["fake"] and not field.wrong
    assert field.verdicts["fake"].error_rel_l2 < 1e-6


@pytest.mark.parametrize("precision", ["float32", "16bit", "int8"])
@pytest.mark.parametrize(
    "spoil", [one_wrong_row, one_nan, torch.zeros_like, lambda out: out * 1.1], ids=str
)
def test_a_wrong_contestant_is_caught(spoil, precision):
    problem = small_problem()
    field = run.Field(problem)
    field.enter("fake", lambda: Fake(problem, spoil, precision))
    assert not field.right and [w["name"] for w in field.wrong] == ["fake"]


def test_precision_of_16_bits_is_no_pass_for_float32():
    problem = small_problem()
    field = run.Field(problem)
    field.enter("fake", lambda: Fake(problem, lambda out: out.bfloat16().float()))
    assert [w["name"] for w in field.wrong] == ["fake"]


def test_what_cannot_run_is_left_out_if_a_peer_and_wrong_if_ours():
    def refuse():
        raise peers.Refused("not here")

    def fail():
        raise RuntimeError("no\nluck")

    field = run.Field(small_problem())
    field.enter("refusing", refuse, may_fail=True)
    field.enter("failing", fail, may_fail=True)
    field.enter("ours", fail)
    assert field.left_out == [
        {"name": "refusing", "reason": "not here"},
        {"name": "failing", "reason": "RuntimeError: no luck"},
    ]
    assert field.wrong == [{"name": "ours", "reason": "RuntimeError: no luck"}]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("remainder", ["none", "mean"])
def test_truth_of_a_plan_is_the_reference_on_all_rows(causal, remainder):
    problem = small_problem(n=100, causal=causal, remainder=remainder)  # more rows than sampled
    call = problem.calls[0]
    whole = ea.attention(
        call.q, call.k, call.v, is_causal=causal, enable_gqa=True, plan=problem.plans[0.2]
    )
    judge = truth.Truth(problem)
    assert judge.judge([whole], "float32", 0.2).right
    assert not judge.judge([whole], "float32", None).right  # it is not exact attention
    assert judge.judge([whole], "float32", 0.2).output_rel_l2 > 0.01


def test_ours_may_compute_a_head_exactly_and_peers_with_a_mask_may_not():
    problem = small_problem()
    call = problem.calls[0]
    exact = [ea.attention(call.q, call.k, call.v, enable_gqa=True)]
    kept = [masks.kept_keys(problem, 0, problem.plans[0.2])]
    judge = truth.Truth(problem)
    assert judge.judge(exact, "float32", 0.2).right
    assert judge.judge(exact, "float32", 0.2, kept).right
    assert not judge.judge(exact, "float32", 0.2, kept, may_be_exact=False).right


@pytest.mark.parametrize("causal", [False, True])
def test_masks_hold_the_keys_that_a_plan_keeps(causal):
    problem = small_problem(causal=causal)
    call, plan = problem.calls[0], problem.plans[0.2]
    kept = masks.kept_keys(problem, 0, plan)
    options = {"is_causal": causal, "enable_gqa": True, "plan": plan}
    _, heads = ea.attention(call.q, call.k, call.v, return_stats=True, **options)
    assert [int(head.sum()) for head in kept] == [head.kept for head in heads]
    masked = torch.nn.functional.scaled_dot_product_attention(
        call.q, call.k, call.v, attn_mask=kept[None], enable_gqa=True
    )
    expected = ea.attention(call.q, call.k, call.v, **options)
    torch.testing.assert_close(masked, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_plans_keep_about_the_share_that_was_asked_for(causal):
    problem = small_problem(kept=(0.1, 0.4), n=300, causal=causal)
    call = problem.calls[0]
    for share, plan in problem.plans.items():
        _, heads = ea.attention(
            call.q, call.k, call.v, is_causal=causal, enable_gqa=True, plan=plan, return_stats=True
        )
        assert sum(h.kept for h in heads) / sum(h.pairs for h in heads) == pytest.approx(
            share, abs=0.03
        )


def test_the_standard_cases_cover_the_table():
    chosen = cases.choose(cases.KINDS, None, None, None, (1, 2), cases.CACHES)
    assert len({case.name for case in chosen}) == len(chosen)
    random = [case for case in chosen if case.kind == "random"]
    assert {c.n_q for c in random} == {128, 256, 512, 1024, 2048, 4096, 8192, 16384}
    assert {c.d for c in random} == {32, 64, 128}
    assert {c.causal for c in random} == {False, True} and {c.threads for c in random} == {1, 2}
    assert {c.model for c in chosen if c.kind == "traces"} == {"minilm", "rxn-albert"}
    decode = [case for case in chosen if case.kind == "decode"]
    assert {c.n_k for c in decode} == {4096, 32768, 131072} and {c.n_q for c in decode} == {1}
    assert any(c.heads > c.kv_heads for c in decode)


QUICK = ["--n", "64", "--threads", "1", "--rounds", "2", "--kept", "0.2", "--peers", "torch-sdpa"]


def test_one_real_case_from_measuring_to_the_plot(tmp_path, capsys):
    plot = tmp_path / "bench.png"
    assert main([*QUICK, "--json", "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert found["environment"]["target"] in [t.name for t in ea.cpu_targets()]
    (case,) = found["cases"]
    assert case["rounds"] == 2 and case["fastest_peer"]["float32"] == "torch-sdpa"
    assert [entry["name"] for entry in case["contestants"]] == [
        "torch-sdpa", "exact", "elsa@0.2", "exact-16bit", "elsa-16bit@0.2", "elsa-int8@0.2",
    ]  # fmt: skip
    for entry in case["contestants"]:
        assert 0 < entry["p10_s"] <= entry["median_s"] <= entry["p90_s"]
        assert entry["error_rel_l2"] <= entry["tolerance"]
    against_torch = report.ratio(case, "exact", "torch-sdpa")
    assert against_torch["p10"] <= against_torch["median"] <= against_torch["p90"]

    saved = tmp_path / "bench.json"
    saved.write_text(text)
    assert main(["--from", str(saved)]) == 0
    shown = capsys.readouterr().out
    assert "random, n = 64, d = 64, 12 heads, 1 thread, 2 rounds" in shown
    assert f"| {case['name']} | torch-sdpa" in shown
    assert shown.count("slower: ") == max(1, len(found["losses"]))


def test_runs_are_shown_together_if_of_one_machine(tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        assert main([*QUICK, "--precision", "float32", "--clock", "cpu", "--json"]) == 0
        path.write_text(capsys.readouterr().out)
    assert main(["--from", *map(str, paths)]) == 0
    assert capsys.readouterr().out.count("random, n = 64") == 2
    paths[1].write_text(paths[1].read_text().replace('"cores": ', '"cores": 9'))
    assert main(["--from", *map(str, paths)]) == 2
    assert "--from: cores: expected" in capsys.readouterr().err


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_decoding_computes_what_attention_does(kv_heads):
    case = cases.Case("decode", 1, 1, 300, 16, 4, kv_heads)
    options = run.Options([peers.TorchSdpa], kept=(), decode_kept=(0.2,), rounds=1)
    result = run.run_case(case, options)
    assert not result["wrong"]
    names = {entry["name"] for entry in result["contestants"]}
    assert {"torch-sdpa", "exact", "elsa@0.2", "exact-16bit", "elsa-16bit@0.2"} <= names
    assert ("elsa-union@0.2" in names) == (kv_heads == 2)
    kept = {entry["name"]: entry.get("kept_fraction") for entry in result["contestants"]}
    assert kept["elsa@0.2"] == pytest.approx(0.2, abs=0.05)


def test_a_wrong_peer_is_named_and_the_exit_code_is_1(monkeypatch, capsys):
    class Broken(peers.TorchSdpa):
        name = "broken"

        @classmethod
        def make(cls, problem):
            return Fake(problem, lambda out: out * 1.01)

    monkeypatch.setattr(peers, "PEERS", (Broken,))
    assert main([*QUICK[:-1], "broken", "--precision", "float32"]) == 1
    printed = capsys.readouterr()
    assert "WRONG fake: expected an error of at most 2e-05, got 0.01" in printed.out
    assert printed.err == "elsa-bench: wrong results, not timed: random-n64-d64-h12-t1: fake\n"


def test_an_absent_peer_is_listed_and_an_error_only_if_asked_for(monkeypatch, capsys):
    class Absent(peers.TorchSdpa):
        name, package = "absent", "no_such_package"

    monkeypatch.setattr(peers, "PEERS", (peers.TorchSdpa, Absent))
    assert main([*QUICK[:-1], "absent"]) == 2
    assert "expected absent installed, got none; run: pip install" in capsys.readouterr().err
    assert main([*QUICK[:-2], "--precision", "float32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["absent"] == [{"name": "absent", "install": "pip install no_such_package"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "some"], "--cases: expected some of random, traces, decode, got 'some'"),
        (["--peers", "numpy"], "--peers: expected some of torch-sdpa,"),
        (["--precision", "fp64"], "--precision: expected some of float32, 16bit, int8"),
        (["--n", "0"], "argument --n: expected a"),
        (["--n", "8,8"], "argument --n: expected different values"),
        (["--kept", "1.5"], "argument --kept: expected shares between 0 and 1"),
        (["--clock", "cpu"], "--clock cpu: expected --threads 1, got more"),
        (["--d", "300"], "--d: expected at most 256, got 300"),
        (["--plot", "/no/such/folder/x.png"], "expected an existing folder"),
        (["--from", "/no/such/file"], "No such file"),
    ],
)
def test_bad_options_are_one_line(options, message, capsys):
    assert main(options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err


def test_an_earlier_run_of_another_format_is_refused(tmp_path, capsys):
    path = tmp_path / "bench.json"
    for text, message in (("{}", "expected what elsa bench"), ('{"format_version": 9}', "got 9")):
        path.write_text(text)
        assert main(["--from", str(path)]) == 2
        assert message in capsys.readouterr().err
