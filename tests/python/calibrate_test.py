"""ea.calibrate against a short re-implementation of Sec. III-E, and its sources."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import elsa_attention as ea

N, D, HEADS = 20, 16, 3


def tensors(seed, batch=2, n=N):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((batch, HEADS, n, D)).astype(np.float32) for _ in range(3))


def inputs_of(seeds=(0, 1)):
    """Two layers, each seen once per seed."""
    return [(layer, *tensors(10 * seed + layer)) for seed in seeds for layer in (0, 1)]


def paper_threshold(inputs, layer, head, p):
    """Sec. III-E: the mean over queries of the smallest normalised score whose softmax weight
    exceeds p / n, or of the largest if there is none."""
    values = []
    for at, q, k, _ in inputs:
        if at != layer:
            continue
        for queries, keys in zip(
            q[:, head].astype(np.float64), k[:, head].astype(float), strict=True
        ):
            norm_max = np.linalg.norm(keys, axis=1).max()
            for query in queries:
                raw = keys @ query
                weights = np.exp(raw / D**0.5 - (raw / D**0.5).max())
                weights /= weights.sum()
                relevant = raw[weights > p / len(keys)]
                chosen = relevant.min() if len(relevant) else raw.max()
                values.append(chosen / (np.linalg.norm(query) * norm_max))
    return np.mean(values), len(values)


@pytest.mark.parametrize("p", [0.5, 1, 3, 15])
def test_thresholds_follow_the_papers_rule(p):
    inputs = inputs_of()
    plan = ea.calibrate(inputs, p=p)
    for layer in (0, 1):
        for head in range(HEADS):
            expected, queries = paper_threshold(inputs, layer, head, p)
            assert plan.thresholds[layer][head] == pytest.approx(expected, rel=1e-5)
            assert plan.calibration[layer][head]["queries"] == queries


def test_expected_fractions_are_those_of_running_on_the_same_inputs():
    inputs = inputs_of()
    plan = ea.calibrate(inputs, p=1)
    for layer in (0, 1):
        parts = [
            ea.attention(*qkv, plan=plan, layer=layer, return_stats=True, measure_mass=True)[1]
            for at, *qkv in inputs
            if at == layer
        ]
        for head in range(HEADS):
            run = ea.HeadStats.total(part[head] for part in parts)
            told = plan.calibration[layer][head]
            assert told["kept_fraction"] == pytest.approx(run.kept_fraction, abs=0.01)
            assert told["mass_kept"] == pytest.approx(run.mass_kept, abs=0.01)


@pytest.mark.parametrize("setting", [dict(mass=0.9), dict(mass=0.9, rule="gap"), dict(budget=0.3)])
def test_targets_are_met_on_the_calibration_inputs(setting):
    inputs = inputs_of(range(6))
    plan = ea.calibrate(inputs, **setting)
    parts = [
        ea.attention(*qkv, plan=plan, layer=at, return_stats=True, measure_mass=True)[1][0]
        for at, *qkv in inputs
        if at == 0
    ]
    run = ea.HeadStats.total(parts)
    reached = run.mass_kept if "mass" in setting else run.kept_fraction
    assert reached == pytest.approx(plan.target, abs=0.02)
    assert plan.rule == setting.get("rule") or plan.rule in setting


def test_one_pass_learns_what_many_calls_learn():
    settings = [
        dict(p=1),
        dict(p=1, remainder="mean"),
        dict(p=2, hash="dense", hash_bits=32),
        dict(mass=0.8, centring="on"),
        dict(p=1, theta_bias="per-head"),
        dict(p=1, theta_bias=0.2, dense_below=4),
    ]
    reads = []

    class Source:
        def __iter__(self):
            reads.append(1)
            return iter(inputs_of())

    plans = ea.calibrate_many(Source(), settings=settings, model_name="m")
    assert len(reads) == 2  # one for the angles of "per-head", one for the thresholds
    for setting, plan in zip(settings, plans, strict=True):
        assert plan == ea.calibrate(inputs_of(), **setting, model_name="m")
    assert plans[0].replace(remainder="mean") == plans[1]
    assert plans[5].theta_bias_rad == [[0.2]]


def test_theta_bias_per_head_is_the_80th_percentile_of_the_error_on_these_pairs():
    inputs = inputs_of()
    plan = ea.calibrate(inputs, p=1, theta_bias="per-head")
    assert plan.profile == "custom"
    for layer in (0, 1):
        for head in range(HEADS):
            errors = []
            for at, q, k, _ in inputs:
                if at != layer:
                    continue
                for queries, keys in zip(q[:, head], k[:, head], strict=True):
                    bits = [plan.hash.sign_bits(np.ascontiguousarray(x)) for x in (queries, keys)]
                    distance = (bits[0][:, None] != bits[1][None]).sum(-1)
                    norms = np.outer(*(np.linalg.norm(x, axis=1) for x in (queries, keys)))
                    true = np.arccos(np.clip(queries @ keys.T / norms, -1, 1))
                    errors.append((np.pi / plan.hash_bits * distance - true).ravel())
            expected = np.quantile(np.concatenate(errors), 0.8)
            assert plan.theta_bias_rad[layer][head] == pytest.approx(expected, abs=3 * np.pi / 4096)


@pytest.mark.parametrize("theta_bias", ["per-head", 0.15])
def test_a_wider_hash_learns_and_runs_as_on_vectors_spread_among_zeros(theta_bias):
    q, k, v = tensors(0)
    # Quarters: sums of products are exact, so equal in any order.
    q, k = (np.round(4 * x) / 4 for x in (q, k))
    # 16 components lie where the sum of the digits in base 4 is a multiple of 4.
    positions = [p for p in range(64) if (p // 16 + p // 4 % 4 + p % 4) % 4 == 0]
    wider = [np.zeros((*x.shape[:-1], 64), x.dtype) for x in (q, k)]
    for wide, x in zip(wider, (q, k), strict=True):
        wide[..., positions] = x
    scale = dict(scale=D**-0.5)  # that of the real components
    plan = ea.calibrate([(0, q, k, v)], p=1, hash_d=64, theta_bias=theta_bias)
    assert (plan.d, plan.hash_bits, [bits for bits, _ in plan.hash.factors]) == (64, 64, [64])
    assert plan == ea.calibrate([(0, *wider, v, scale)], p=1, theta_bias=theta_bias)
    run = dict(plan=plan, return_stats=True, measure_mass=True)
    (out, stats), (expected, told) = (
        ea.attention(q, k, v, **run),
        ea.attention(*wider, v, **run, **scale),
    )
    assert np.array_equal(out, expected) and stats == told
    assert ea.HeadStats.total(stats).kept_fraction < 0.9
    where = dict(plan=plan, head=1, query_index=3)
    assert ea.explain(q, k, v, **where) == ea.explain(*wider, v, **where, **scale)


def test_a_wider_hash_measures_its_correction_on_vectors_of_the_inputs():
    plan = ea.calibrate(inputs_of(), p=1, hash_d=64)
    drawn = ea.make_hash(64, 64)
    assert plan.theta_bias_rad == [[ea.theta_bias(drawn, d=D)]] != [[ea.theta_bias(drawn)]]
    assert plan.profile == "paper"


def test_a_narrower_hash_is_refused():
    for theta_bias in ("synthetic", "per-head"):
        with pytest.raises(ValueError, match=f"hash_d: expected {D} or more, got {D - 1}"):
            ea.calibrate(inputs_of(), p=1, hash_d=D - 1, theta_bias=theta_bias)
    with pytest.raises(TypeError, match="hash_d: expected an integer, got 64.0"):
        ea.calibrate(inputs_of(), p=1, hash_d=64.0)


def test_results_do_not_depend_on_threads():
    assert ea.calibrate(inputs_of(), p=1, threads=1) == ea.calibrate(inputs_of(), p=1, threads=3)


def test_options_reach_the_inputs():
    q, k, v = tensors(0)
    padded = ea.calibrate([(0, q, k, v, dict(lengths=[12, 12]))], p=1)
    plain = ea.calibrate([(0, q[:, :, :12], k[:, :, :12], v[:, :, :12])], p=1)
    assert padded == plain
    scaled = ea.calibrate([(0, q, k, v, dict(scale=0.1))], p=1)
    assert scaled.thresholds != ea.calibrate([(0, q, k, v)], p=1).thresholds


# ---- traces ----


def write_trace(
    path, model="tiny", lengths=None, seeds=(0, 1), nan=False, scale="0.25", causal="false"
):
    st = pytest.importorskip("safetensors.numpy")
    data = {}
    for layer, seed in enumerate(seeds):
        for name, x in zip("qkv", tensors(seed), strict=True):
            data[f"layer.{layer}.{name}"] = x
    if nan:
        data["layer.1.k"][1, 2, 3, 4] = np.nan
    if lengths is not None:
        data["lengths"] = np.array(lengths, np.int64)
    metadata = {
        "elsa.trace": "1",
        "elsa.model": model,
        "elsa.scale": scale,
        "elsa.causal": causal,
        "elsa.source_digest": "x",
    }
    st.save_file(data, path, metadata=metadata)
    return path


@pytest.mark.parametrize("lengths", [None, [20, 7]])
def test_traces_teach_what_their_tensors_teach(tmp_path, lengths):
    path = write_trace(tmp_path / "trace.safetensors", lengths=lengths)
    items = [(layer, *tensors(layer), dict(lengths=lengths)) for layer in (0, 1)]
    expected = ea.calibrate(items, p=1, model_name="tiny")
    assert ea.calibrate(path, p=1) == expected
    assert ea.calibrate([str(path)], p=1) == expected
    assert ea.calibrate([path], p=1, model_name="other").model == "other"
    twice = ea.calibrate([path, path], p=1)
    for a, b in zip(twice.thresholds, expected.thresholds, strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_traces_open_as_arrays(tmp_path):
    trace = ea.Trace.open(write_trace(tmp_path / "trace.safetensors", lengths=[20, 7]))
    assert (trace.model, trace.layers, trace.batch, trace.n_k) == ("tiny", 2, 2, N)
    assert trace.lengths == [20, 7] and trace.scale == 0.25 and not trace.causal
    q, k, v, bias = trace.layer(1)
    del trace  # the arrays keep the file open
    for got, expected in zip((q, k, v), tensors(1), strict=True):
        assert np.array_equal(got, expected) and not got.flags.writeable
    assert bias is None


def test_bad_traces_are_refused(tmp_path):
    good = write_trace(tmp_path / "good.safetensors")
    with pytest.raises(ValueError, match="model: expected 'tiny' as in .* got 'else'"):
        ea.calibrate([good, write_trace(tmp_path / "b.safetensors", model="else")], p=1)
    for other, words in (
        (dict(scale="0.5"), "scale: expected 0.25 as in .* got 0.5"),
        (dict(causal="true"), "causal: expected False as in .* got True"),
        (dict(seeds=(0,)), "layers: expected 2 as in .* got 1"),
    ):
        with pytest.raises(ValueError, match=words):
            ea.calibrate([good, write_trace(tmp_path / "d.safetensors", **other)], p=1)
    with pytest.raises(ValueError, match=r"layer.1.k"):
        ea.calibrate(write_trace(tmp_path / "c.safetensors", nan=True), p=1)
    with pytest.raises(OSError, match="missing"):
        ea.calibrate(tmp_path / "missing.safetensors", p=1)
    trace = ea.Trace.open(good)
    for call in (lambda: trace.layer(2), lambda: trace.tokens(-1)):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            call()


def test_the_command_line_writes_the_same_bytes(tmp_path):
    elsa = shutil.which("elsa", path=sysconfig.get_path("scripts"))
    if elsa is None:
        pytest.skip("the elsa command is not installed beside this Python")
    trace = write_trace(tmp_path / "trace.safetensors")
    for name, options, setting in [
        ("paper", "--p 1", dict(p=1)),
        ("mean", "--p 2 --remainder mean --hash dense", dict(p=2, remainder="mean", hash="dense")),
        ("mass", "--mass 0.9 --theta-bias per-head", dict(mass=0.9, theta_bias="per-head")),
        ("wide", "--p 1 --hash-d 64", dict(p=1, hash_d=64)),
    ]:
        path = tmp_path / f"{name}.json"
        command = [elsa, "calibrate", trace, *options.split(), "--hash-bits", "64", "-o", path]
        subprocess.run(command, check=True, capture_output=True)
        assert path.read_text() == ea.calibrate(trace, hash_bits=64, **setting).to_json()


# ---- refusals ----


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        (dict(), "expected one of p, mass or budget, got none"),
        (dict(p=1, mass=0.5), "got p and mass"),
        (dict(p=1, rule="gap"), "expected paper with p, got gap"),
        (dict(p=-1), "target"),
        (dict(p=float("nan")), "target"),
        (dict(mass=1.5), "target"),
        (dict(p=1, hash="md5"), "hash kind"),
        (dict(p=1, hash_bits=0), "expected 1 to 4096 bits"),
        (dict(p=1, hash_d=0), "hash_d: expected 1 or more, got 0"),
        (dict(p=1, hash_d=1025), "expected 1 to 1024 components"),
        (dict(p=1, remainder="median"), "remainder"),
        (dict(p=1, centring="half"), "centring"),
        (dict(p=1, theta_bias="guess"), "theta_bias: expected synthetic, per-head or radians"),
        (dict(p=1, threads=0), "threads"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_work(setting, what):
    def never():
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError, match=what):
        ea.calibrate(never(), **setting)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="quality"):
        ea.calibrate_many([], settings=[dict(quality=1)])


@pytest.mark.parametrize(
    ("source", "error", "what"),
    [
        ([], ValueError, "inputs for every layer, got none"),
        ([(1, *tensors(0))], ValueError, "got none for layer 0"),
        ([tensors(0)], TypeError, "expected a model, paths, or"),
        ([1, 2], TypeError, "expected a model, paths, or"),
        ([(0, *tensors(0)), (0, *(x[:, :2] for x in tensors(0)))], ValueError, "heads"),
        ([(0, *tensors(0)), (1, *(x[..., :8] for x in tensors(0)))], ValueError, "layer 1: d"),
        ([(-1, *tensors(0))], ValueError, "layer"),
    ],
)
def test_sources_that_make_no_sense_are_refused(source, error, what):
    with pytest.raises(error, match=what):
        ea.calibrate(source, p=1)


def test_reading_twice_needs_something_that_can_be_read_twice():
    with pytest.raises(ValueError, match="can be read twice"):
        ea.calibrate(iter(inputs_of()), p=1, theta_bias="per-head")
    assert ea.calibrate(iter(inputs_of()), p=1).layers == 2


def test_batches_belong_to_a_model():
    with pytest.raises(ValueError, match="expected batches with a model only"):
        ea.calibrate(Path("trace.safetensors"), [1], p=1)
