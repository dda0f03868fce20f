"""ea.Accelerator and the engines fixed and sim: values, cycles, energy, reports, timelines."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest

import elsa_attention as ea
from elsa_attention.inputs import attend_without_padding, prepare


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def case(batch=1, heads=2, n=48, d=64, seed=0):
    """Query, key and value of a problem whose softmax prefers some keys."""
    q, k, v = (normal(batch, heads, n, d, seed=seed + i) for i in range(3))
    return 2 * q, k, v


def plan_for(q, k, v, p=1.0, **options):
    return ea.calibrate([(0, q, k, v)], p=p, **options)


def elsa(*arguments):
    """The native command, as JSON."""
    command = shutil.which("elsa", path=sysconfig.get_path("scripts"))
    assert command, "the package's own elsa command"
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Parameters


@pytest.mark.parametrize(
    ("config", "keywords", "arguments"),
    [
        (None, {}, []),
        (None, {"formats": "recommended"}, ["--formats", "recommended"]),
        (None, {"selectors_per_bank": 16, "remainder": "mean"},
         ["--selectors-per-bank", "16", "--remainder", "mean"]),
        (None, {"formats": "recommended", "sum_fraction_bits": 9},
         ["--formats", "recommended", "--sum-fraction-bits", "9"]),
    ],
)  # fmt: skip
def test_parameters_and_digest_are_those_of_the_command_line(config, keywords, arguments):
    machine = ea.Accelerator(config, **keywords)
    told = elsa("params", "--json", *arguments)
    assert machine.digest == told["digest"]
    assert machine.config.to_dict() == told["config"]
    assert machine.config.formats == told["formats"]


def test_named_machines_and_files_are_the_same(tmp_path):
    assert ea.Accelerator() == ea.Accelerator("paper")
    assert ea.Accelerator("recommended") == ea.Accelerator(formats="recommended")
    assert ea.Accelerator("tiny").config.n < ea.Accelerator("single").config.n
    told = elsa("params", "--json")["config"]
    rows = []
    for section, values in told.items():
        rows += [f"[{section}]", *(f"{name} = {json.dumps(x)}" for name, x in values.items())]
    path = tmp_path / "own.toml"
    path.write_text("\n".join(rows) + "\n")
    assert ea.Accelerator(path) == ea.Accelerator()
    assert ea.Accelerator(str(path), banks=8) == ea.Accelerator(banks=np.int64(8))
    assert ea.Accelerator(path, banks=8).digest != ea.Accelerator(path).digest


def test_every_parameter_is_an_attribute_that_cannot_be_set():
    config = ea.Accelerator(queue_depth=5).config
    for section in config.to_dict().values():
        for name, value in section.items():
            assert getattr(config, name) == value
            with pytest.raises(AttributeError):
                setattr(config, name, value)
    assert config.queue_depth == 5 and config.hash == "kronecker3"


@pytest.mark.parametrize(
    ("config", "keywords", "error", "words"),
    [
        (None, {"selector_per_bank": 8}, TypeError, "such as selectors_per_bank, got selector_per"),
        (None, {"banks": 0}, ValueError, "machine.banks: expected integer 1 to .*, got 0"),
        (None, {"banks": "four"}, ValueError, "machine.banks: expected integer .*, got 'four'"),
        (None, {"banks": 4.0}, ValueError, "machine.banks: expected integer .*, got '4.0'"),
        (None, {"banks": 3}, ValueError, "machine.banks: expected a divisor of machine.n = 512"),
        (None, {"hash": "md5"}, ValueError, "machine.hash: expected .*kronecker3"),
        (None, {"formats": "best"}, ValueError, "paper-literal.*recommended.*best"),
        ("papre", {}, ValueError, "expected a file or one of paper, recommended, single, tiny, "),
        ("./absent.toml", {}, OSError, "absent.toml"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(config, keywords, error, words):
    with pytest.raises(error, match=words) as told:
        ea.Accelerator(config, **keywords)
    assert "\n" not in str(told.value)


def test_area_and_power_of_the_papers_machine_are_table_1():
    machine = ea.Accelerator()
    area, power = machine.area_mm2, machine.peak_power_mw
    # Table I: 1.255 mm2, 956.05 + 13.31 mW for the accelerator; Sec. V-D: 1.49 W with its memories.
    assert area.accelerator == pytest.approx(1.255, abs=0.001)
    assert power.accelerator == pytest.approx(956.05 + 13.31, abs=0.1)
    assert power.total == pytest.approx(1490, abs=5)
    for breakdown in (area, power):
        assert set(breakdown.provenance) == set(breakdown.modules)
        assert all("Table I" in text for text in breakdown.provenance.values())
        outside = sum(breakdown.modules[name] for name in breakdown.external)
        assert breakdown.total == pytest.approx(breakdown.accelerator + outside)
    larger = ea.Accelerator(selectors_per_bank=16).area_mm2.modules
    assert larger["candidate_selector"] > 1.5 * area.modules["candidate_selector"]


# Values


def quantised(x, step):
    return np.round(x / step) * step


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("formats", ["paper-literal", "recommended"])
@pytest.mark.parametrize("n", [5, 32, 100])
def test_values_are_those_of_the_formula_on_rounded_matrices(formats, n):
    # The literal formats keep 3 fraction bits. The recommended ones scale by a power of two per
    # matrix; values here are below 16, so the step is 1/16 or less.
    q, k, v = case(n=n)
    machine = ea.Accelerator(formats=formats)
    out = ea.attention(q, k, v, engine="fixed", accelerator=machine)
    step = 1 / 8
    if formats == "recommended":
        largest = max(np.abs(x).max() for x in (q, k, v))
        assert largest < 16
        exact = [x.astype(float) for x in (q, k, v)]
        step = 2.0 ** math.ceil(math.log2(largest)) / 256
    else:
        exact = [quantised(x.astype(float), step) for x in (q, k, v)]
    scores = exact[0] @ exact[1].swapaxes(-1, -2) / 8
    expected = softmax(scores) @ exact[2]
    # The output's own rounding, and weights of 5 fraction bits: together measured up to 0.87 of it.
    slack = step / 2 + 2.0**-5 * np.abs(v).max()
    assert np.abs(out - expected).max() < slack
    reference = ea.attention(q, k, v)
    error = np.linalg.norm(out - reference) / np.linalg.norm(reference)
    assert error < {"paper-literal": 0.2, "recommended": 0.03}[formats]  # measured 0.124, 0.018


@pytest.mark.parametrize("formats", ["paper-literal", "recommended"])
@pytest.mark.parametrize("p", [0, 1, 4])
def test_one_bank_with_one_selector_takes_candidates_in_ascending_order(formats, p):
    q, k, v = case(heads=3, n=40)
    machine = ea.Accelerator(banks=1, selectors_per_bank=1, formats=formats)
    options = dict(plan=plan_for(q, k, v, p=p), accelerator=machine, return_stats=True)
    fixed, fixed_stats = ea.attention(q, k, v, engine="fixed", **options)
    sim, sim_stats = ea.attention(q, k, v, engine="sim", **options)
    assert np.array_equal(fixed, sim)
    assert fixed_stats == sim_stats


def test_another_order_shows_in_the_last_bits_only():
    q, k, v = case(heads=4, n=128)
    plan = plan_for(q, k, v)
    fixed = ea.attention(q, k, v, plan=plan, engine="fixed")
    sim = ea.attention(q, k, v, plan=plan, engine="sim")
    assert not np.array_equal(fixed, sim)  # rounded sums: order does matter
    assert np.linalg.norm(fixed - sim) < 0.25 * np.linalg.norm(fixed)
    by_method, _ = ea.Accelerator().attention(q, k, v, plan=plan)
    assert np.array_equal(sim, by_method)


def test_selection_is_near_that_of_the_reference():
    q, k, v = case(heads=4, n=128)
    plan = plan_for(q, k, v)
    _, machine = ea.attention(q, k, v, plan=plan, engine="fixed", return_stats=True)
    _, reference = ea.attention(q, k, v, plan=plan, return_stats=True)
    kept, expected = (ea.HeadStats.total(stats) for stats in (machine, reference))
    assert kept.pairs == expected.pairs and kept.queries == expected.queries
    assert 0.1 < expected.kept_fraction < 0.9
    assert kept.kept_fraction == pytest.approx(expected.kept_fraction, abs=0.05)
    assert kept.mass_kept is None


@pytest.mark.parametrize("engine", ["fixed", "sim"])
def test_words_of_attention_mean_the_same_on_the_machine(engine):
    torch = pytest.importorskip("torch")
    q, k, v = case(batch=2, heads=4, n=20)
    run = dict(engine=engine, accelerator=ea.Accelerator(formats="recommended"))
    out = ea.attention(q, k[:, :2], v[:, :2], enable_gqa=True, is_causal=True, **run)
    causal = ea.attention(q, k[:, :2], v[:, :2], enable_gqa=True, is_causal=True)
    assert np.abs(out - causal).max() < 0.3
    out = ea.attention(q, k, v, lengths=[20, 7], scale=0.2, **run)
    assert not out[1, :, 7:].any()
    short = ea.attention(q[1, :, :7], k[1, :, :7], v[1, :, :7], scale=0.2, **run)
    assert np.array_equal(out[1, :, :7], short)
    halves = [torch.from_numpy(x).half() for x in (q, k, v)]
    result = ea.attention(*halves, **run)
    assert result.dtype == torch.float16 and result.shape == q.shape
    mask = np.arange(20) % 3 > 0
    masked = ea.attention(q, k, v, mask, **run)
    assert np.array_equal(masked, ea.attention(q, k[:, :, mask], v[:, :, mask], **run))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_on_either_side_never_reaches_the_machine(side, causal):
    q, k, v = case(batch=2, n=12)
    lengths, n = [12, 7], 12
    real = np.array([[i < m if side == "right" else i >= n - m for i in range(n)] for m in lengths])
    mask = real[:, None, None, :] & (np.tri(n, dtype=bool) if causal else True)
    inputs = prepare(q, k, v, np.broadcast_to(mask, (2, 1, n, n)))
    machine, out = ea.Accelerator(), np.full(q.shape, np.nan, np.float32)
    report = attend_without_padding(
        inputs, out, lambda rows, to: machine.simulate(rows, None, 0, to, 0)
    )
    for row, keep in enumerate(real):
        alone = (x[row][:, keep] for x in (q, k, v))
        expected, _ = machine.attention(*alone, is_causal=causal)
        assert np.array_equal(out[row][:, keep], expected)
        assert not out[row][:, ~keep].any()
    pairs = sum(m * (m + 1) // 2 if causal else m * m for m in lengths)
    assert [s.pairs for s in report.stats] == [pairs, pairs]
    assert [s.queries for s in report.stats] == [19, 19]


# Cycles and energy


def test_a_full_exact_head_takes_n_squared_over_banks_and_a_few_cycles():
    q, k, v = case(heads=1, n=512)
    out, report = ea.Accelerator().attention(q, k, v, values=False)
    assert out is None
    # 512 queries x 512 keys / 4 banks, then 25 cycles until the last row is written.
    assert report.phases["execute"] == 65536 + 25
    assert report.phases["preprocess"] == report.phases["copy"] == 0
    assert report.causes["busy"] == 65536
    assert report.heads == 1
    # Dense: every module of attention is at work, so that its power is the peak.
    busy = report.modules["attention_unit"]["busy"]
    assert busy == 4 * 65536
    attention_mw = ea.Accelerator().peak_power_mw.modules["attention_unit"]
    assert report.energy_pj.modules["attention_unit"] == pytest.approx(
        attention_mw * 1e9 * report.time_s, rel=1e-3
    )


def simulated(**options):
    q, k, v = case(batch=2, heads=3, n=96)
    plan = plan_for(q, k, v, **options)
    return ea.Accelerator().attention(q, k, v, plan=plan)[1], (q, k, v, plan)


def test_cycles_of_a_report_add_up():
    report, _ = simulated()
    assert report.heads == 6
    assert sum(report.phases.values()) == sum(report.causes.values()) == report.cycles
    for name, causes in report.modules.items():
        assert sum(causes.values()) == report.cycles * report.instances[name], name
    assert report.instances["candidate_selector"] == 4
    assert report.time_s == report.cycles / 1e9
    assert report.cycles / 12 <= report.makespan_cycles < report.cycles
    counters = report.counters
    assert counters["candidates"] == sum(s.kept for s in report.stats)
    assert counters["pairs"] == sum(s.pairs for s in report.stats) == 6 * 96 * 96
    assert counters["fallback_queries"] == sum(s.fallback_queries for s in report.stats)
    assert counters["hashes"] == 6 * (96 + 96) and counters["norms"] == 6 * 96


def test_energy_by_module_adds_up_and_stays_below_peak_power():
    report, _ = simulated()
    energy = report.energy_pj
    peak = ea.Accelerator().peak_power_mw
    assert set(energy.modules) == set(peak.modules)
    for name, value in energy.modules.items():
        assert 0 < value <= peak.modules[name] * 1e9 * report.time_s * (1 + 1e-9), name
        assert value == pytest.approx(energy.dynamic[name] + energy.static[name])
        assert "pJ per" in energy.provenance[name]
    assert energy.total == pytest.approx(sum(energy.modules.values()))
    assert energy.total == pytest.approx(sum(energy.groups.values()))
    assert energy.accelerator < energy.total


def test_reports_of_parts_add_up_to_the_whole():
    whole, (q, k, v, plan) = simulated()
    machine = ea.Accelerator()
    parts = [machine.attention(q[i], k[i], v[i], plan=plan)[1] for i in range(2)]
    added = sum(parts)
    for name in ("heads", "cycles", "phases", "causes", "modules", "instances", "counters"):
        assert getattr(added, name) == getattr(whole, name), name
    assert added.stats == whole.stats and added.formats == whole.formats
    assert added.energy_pj.total == pytest.approx(whole.energy_pj.total)
    assert added.makespan_cycles == sum(part.makespan_cycles for part in parts)
    assert (parts[1] + parts[0]).advice == added.advice == whole.advice
    other = ea.Accelerator(banks=2).attention(q, k, v, plan=plan, values=False)[1]
    with pytest.raises(ValueError, match="expected reports of one machine, got digests"):
        added + other
    with pytest.raises(TypeError):
        added + 1


def test_leaving_out_values_changes_no_count():
    report, (q, k, v, plan) = simulated()
    none, counted = ea.Accelerator().attention(q, k, v, plan=plan, values=False)
    assert none is None
    expected = report.as_dict()
    for name in ("clamped_scores", "saturated_outputs"):
        expected["formats"][name] = 0
    assert counted.as_dict() == expected
    assert json.loads(report.to_json())["cycles"] == report.cycles


def test_a_report_is_the_simulate_command_on_the_same_tensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    report, (q, k, v, plan) = simulated()
    tensors = {"layer.0.q": q, "layer.0.k": k, "layer.0.v": v}
    about = {"trace": "1", "model": "", "scale": "0.125", "causal": "false", "source_digest": "0"}
    about = {f"elsa.{key}": value for key, value in about.items()}
    safetensors.save_file(tensors, tmp_path / "t.safetensors", about)
    plan.save(tmp_path / "plan.json")
    told = elsa(
        "simulate", str(tmp_path / "t.safetensors"), "--plan", str(tmp_path / "plan.json"), "--json"
    )
    ours = json.loads(report.to_json())
    for name in (
        "digest", "format_set", "operations", "cycles", "preprocess_cycles", "execute_cycles",
        "stall_cycles", "modules", "counters", "makespan_cycles", "candidates", "pairs",
        "kept_fraction", "latency_s", "accelerators",
    ):  # fmt: skip
        assert ours[name] == told[name], name
    assert ours["energy_pj"]["total"] == pytest.approx(told["energy_pj"]["total"])


def test_advice_names_what_a_larger_machine_really_gives():
    report, (q, k, v, plan) = simulated()
    assert report.advice["heads"] == report.heads and report.sentence == report.advice["sentence"]
    trials = report.advice["trials"]
    assert {t["parameter"] for t in trials} >= {"banks", "selectors_per_bank", "query_buffers"}
    assert [t["cycles"] for t in trials] == sorted(t["cycles"] for t in trials)
    for trial in trials:
        machine = ea.Accelerator(**{trial["parameter"]: trial["to"]})
        _, larger = machine.attention(q, k, v, plan=plan, values=False)
        assert larger.cycles == trial["cycles"]
    assert trials[0]["parameter"] in report.sentence


def test_advice_on_many_heads_asks_some_of_them_in_whatever_order_they_came():
    machine = ea.Accelerator("tiny")
    n, d = machine.config.n, machine.config.d
    reports = []
    for seed in range(10):
        x = normal(3, n, d, seed=seed)
        reports.append(machine.attention(x, x, x, values=False)[1])
    forth, back = sum(reports), sum(reports[::-1])
    assert forth.heads == 30 and forth.advice["heads"] == 16
    assert forth.advice == back.advice
    assert forth.sentence.endswith("(From 16 of 30 heads.)")


def test_accelerators_share_the_heads():
    q, k, v = case(heads=12, n=32)
    _, report = ea.Accelerator(accelerators=12).attention(q, k, v, values=False)
    assert report.makespan_cycles == report.cycles // 12
    _, report = ea.Accelerator(accelerators=1).attention(q, k, v, values=False)
    assert report.makespan_cycles == report.cycles
    assert report.makespan_s == report.cycles / 1e9


def test_formats_report_what_saturates():
    q, k, v = case(n=16)
    v[0, 0, 3, :2] = 40, -40  # beyond 5 integer bits
    _, report = ea.Accelerator().attention(q, k, v)
    assert (report.formats.value.saturated, report.formats.value.values) == (2, v.size)
    assert report.formats.value.largest_use == pytest.approx(40 / 32)
    assert report.formats.query.saturated == 0
    _, report = ea.Accelerator(formats="recommended").attention(q, k, v)
    assert report.formats.value.saturated == 0 and report.formats.value.largest_use <= 1


# Timelines


def test_a_timeline_is_written_for_a_window_of_one_head(tmp_path):
    report, (q, k, v, plan) = simulated()
    machine = ea.Accelerator()

    def write(**options):
        path = tmp_path / "timeline"
        machine.timeline(q, k, v, plan=plan, path=path, **options)
        return path.read_bytes()

    log = write(format="kanata", window=(0, 600)).decode()
    assert log.startswith("Kanata\t0004\n")
    assert log.count("\nI\t") > 10
    window, whole = write(window=(400, 500)), write()
    assert 0 < len(window) < len(whole)
    assert whole == write(window=(0, report.cycles))  # no head takes longer than all
    assert window != write(window=(400, 500), head=1) != write(window=(400, 500), batch=1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(format="vcd"), ValueError, "perfetto.*kanata"),
        (dict(window=(5, 5)), ValueError, r"window: expected \(first, end\), got \(5, 5\)"),
        (dict(window=(1, 2, 3)), ValueError, "window: expected"),
        (dict(window=(-1, 5)), ValueError, "window: expected 0 or more, got -1"),
        (dict(head=2), ValueError, "timeline: head: expected 0 to 1, got 2"),
        (dict(batch=1), ValueError, "timeline: batch: expected 0 to 0, got 1"),
        (dict(path="/absent/folder/t"), OSError, "/absent/folder"),
        (dict(plan="plan.json"), TypeError, "expected an elsa_attention.Plan"),
    ],
)
def test_a_timeline_that_makes_no_sense_is_refused(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        ea.Accelerator().timeline(*case(n=4), **({"path": tmp_path / "t"} | options))
    assert not (tmp_path / "t").exists()


# What the machine cannot do


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(measure_mass=True), ValueError, "measure_mass: expected engine reference, got sim"),
        (dict(random_keys_seed=1), ValueError, "random_keys_seed: expected engine reference, got"),
        (dict(accelerator="paper"), TypeError, "expected an elsa_attention.Accelerator, got str"),
        (dict(accelerator=lambda: ea.Accelerator("tiny")), ValueError, "expected at most .* rows"),
        (dict(engine="reference", accelerator=ea.Accelerator), ValueError,
         "accelerator: expected engine fixed or sim, got reference"),
        (dict(scale=-1.0), RuntimeError, "scale: expected a positive number on the machine"),
        (dict(attn_mask=np.eye(40, dtype=bool)), RuntimeError, "mask: expected the same keys for"),
        (dict(attn_mask=normal(40, 40)), RuntimeError, "bias: expected 0"),
    ],
)  # fmt: skip
def test_what_the_engine_has_not_is_refused_by_name(options, error, words):
    if callable(options.get("accelerator")):
        options = options | {"accelerator": options["accelerator"]()}
    with pytest.raises(error, match=words) as told:
        ea.attention(*case(n=40), **({"engine": "sim"} | options))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("learned", "d", "words"),
    [
        (dict(hash_bits=32), 64, "plan: hash.k: expected 64 as the machine's, got 32"),
        (dict(hash="dense"), 64, "plan: hash.kind: expected kronecker3 as the machine's"),
        (dict(), 32, "plan: hash.d: expected 64 as the machine's, got 32"),
        (dict(remainder="mean"), 64, "plan: remainder: expected none as machine.remainder"),
    ],
)
def test_a_plan_for_another_machine_is_refused(learned, d, words):
    q, k, v = case(n=16, d=d)
    plan = plan_for(q, k, v, **learned)
    with pytest.raises(ValueError, match=words):
        ea.attention(q, k, v, plan=plan, engine="fixed")


def test_shorter_vectors_run_with_a_hash_of_the_machines_size():
    q, k, v = case(n=64, d=32)
    plan = plan_for(q, k, v, hash_d=64)
    out, stats = ea.attention(q, k, v, plan=plan, engine="fixed", return_stats=True)
    assert out.shape == q.shape and 0 < ea.HeadStats.total(stats).kept_fraction < 1


def test_uses_of_formats_add_up():
    _, report = ea.Accelerator().attention(*case(n=8))
    twice = report.formats + report.formats
    for name in (field.name for field in dataclasses.fields(twice)):
        one, two = getattr(report.formats, name), getattr(twice, name)
        assert (two.values, two.largest_use) == (2 * one.values, one.largest_use)
