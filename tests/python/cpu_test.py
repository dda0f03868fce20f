"""engine="cpu": the keys of the reference engine, values near torch's in float64, bad input."""

import threading

import numpy as np
import pytest

import elsa_attention as ea
from elsa_attention import _core

torch = pytest.importorskip("torch")
from attention_test import Q, in_double, learned, qkv, random_case  # noqa: E402
from elsa_attention import torch_ops  # noqa: E402, F401 (defines torch.ops.elsa)

# Relative L2 error of the output per precision (src/elsa/cpu/attention.h), times 4 for inputs that
# are not its random normal rows; torch.finfo.eps where the result itself is rounded to 16 bits.
ERROR = {"float32": 4e-6, "16bit": 1.6e-2, "int8": 6e-2}


def cpu(*tensors, **options):
    return ea.attention(*tensors, engine="cpu", **options)


def rel_l2(got, want):
    got, want = (torch.as_tensor(x).double() for x in (got, want))
    return ((got - want).norm() / want.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize("seed", range(40))
def test_equals_torch_in_double(seed):
    q, k, v, options = random_case(seed)
    assert rel_l2(cpu(q, k, v, **options), in_double(q, k, v, options)) < ERROR["float32"]


@pytest.mark.parametrize("seed", range(40, 50))
def test_numpy_and_torch_give_the_same_bits(seed):
    q, k, v, options = random_case(seed)
    arrays = {n: x.numpy() if torch.is_tensor(x) else x for n, x in options.items()}
    ours = cpu(q.numpy(), k.numpy(), v.numpy(), **arrays)
    assert isinstance(ours, np.ndarray)
    assert np.array_equal(cpu(q, k, v, **options).numpy(), ours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["auto", "float32", "16bit"])
def test_16_bit_tensors_are_read_as_they_are(dtype, precision):
    q, k, v = (torch.from_numpy(x).to(dtype) for x in qkv())
    out, stats = cpu(q, k, v, precision=precision, return_stats=True)
    assert out.dtype == dtype
    assert stats.precision == ("16bit" if precision == "auto" else precision)
    assert stats.target in [t.name for t in ea.cpu_targets() if t.selected]
    bound = ERROR[stats.precision] + torch.finfo(dtype).eps
    assert rel_l2(out, in_double(q, k, v, {})) < bound
    if dtype == torch.float16:
        array = cpu(*(x.numpy() for x in (q, k, v)), precision=precision)
        assert array.dtype == np.float16
        assert np.array_equal(array, out.numpy())


@pytest.mark.parametrize("precision", list(ERROR))
def test_precision_changes_values_within_its_error_and_no_key(precision):
    q, k, v = qkv()
    plan = learned(q, k, v)
    want, reference = ea.attention(q, k, v, plan=plan, return_stats=True)
    out, stats = cpu(
        q, k, v, plan=plan, precision=precision, select="always", return_stats=True
    )  # fmt: skip
    assert stats == reference  # counts; how it was computed is not compared
    assert all(head.paths == {"selected": q.shape[0]} for head in stats)
    assert rel_l2(out, want) < ERROR[precision]


def test_select_auto_says_what_it_did_and_keeps_every_key_where_it_was_exact():
    q, k, v = qkv()
    plan = learned(q, k, v)
    _, stats = cpu(q, k, v, plan=plan, return_stats=True)
    for head in stats:
        assert sum(head.paths.values()) == q.shape[0]
        assert "exact" not in head.paths  # this plan has no exact heads
        if "selected" not in head.paths:
            assert head.kept == head.pairs
    _, stats = cpu(q, k, v, return_stats=True)
    assert all(head.paths == {"exact": q.shape[0]} for head in stats)
    assert ea.HeadStats.total(stats).paths == {"exact": q.shape[0] * q.shape[1]}


def test_log_sum_exp_comes_before_the_statistics():
    q, k, v = (torch.from_numpy(x) for x in qkv())
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    mask[1] = False
    out, sums, stats = cpu(q, k, v, mask, return_log_sum_exp=True, return_stats=True)
    assert sums.shape == q.shape[:-1] and sums.dtype == torch.float32
    scores = (q.double() @ k.double().mT * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    want = scores.logsumexp(-1)
    seen = mask.any(-1)
    assert torch.equal(sums[..., ~seen], torch.full_like(sums[..., ~seen], -torch.inf))
    assert (sums[..., seen] - want[..., seen]).abs().max() < 1e-5
    assert (out[..., ~seen, :] == 0).all()
    assert len(stats) == q.shape[1]
    _, of_numpy = cpu(q[0, 0].numpy(), k[0, 0].numpy(), v[0, 0].numpy(), return_log_sum_exp=True)
    assert of_numpy.shape == (q.shape[2],)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 2, 3)])
def test_any_rank_from_2_on(lead):
    q, k, v = (torch.randn(*lead, 5, 8) for _ in range(3))
    out, sums = cpu(q, k, v, return_log_sum_exp=True)
    assert out.shape == q.shape and sums.shape == q.shape[:-1]
    assert rel_l2(out, in_double(q, k, v, {}) if lead else in_double(*(x[None] for x in (q, k, v)), {})[0]) < ERROR["float32"]  # noqa: E501  # fmt: skip


@pytest.mark.parametrize("n_q, n_k", [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_empty_and_single_sequences(n_q, n_k):
    q, k, v = (np.ones((1, 2, n, 4), np.float32) for n in (n_q, n_k, n_k))
    out = cpu(q, k, v)
    assert out.shape == (1, 2, n_q, 4)
    assert np.array_equal(out, np.full_like(out, 1.0 if n_k else 0.0))


def test_what_cannot_be_read_in_place_is_copied():
    q, k, v = (torch.from_numpy(x) for x in qkv())
    want = cpu(q, k, v)
    gaps = torch.stack([q, q], -1)[..., 0]  # a last stride of 2
    assert torch.equal(cpu(gaps, k, v), want)
    assert np.array_equal(cpu(gaps.numpy(), k.numpy(), v.numpy()), want.numpy())
    half = gaps.half()
    assert torch.equal(cpu(torch.stack([half, half], -1)[..., 0], k.half(), v.half()),
                       cpu(half, k.half(), v.half()))  # fmt: skip
    shifted = np.frombuffer(b"\0" + q.numpy().tobytes(), np.uint8)[1:].view(np.float32)
    assert np.array_equal(cpu(shifted.reshape(q.shape), k.numpy(), v.numpy()), want.numpy())
    other_order = q.numpy().astype(q.numpy().dtype.newbyteorder())
    assert np.array_equal(cpu(other_order, k.numpy(), v.numpy()), want.numpy())
    double = cpu(q.double(), k.double(), v.double())
    assert double.dtype == torch.float64 and torch.equal(double.float(), want)
    negative = torch.complex(q, -q).conj().imag  # torch keeps the sign aside
    assert negative.is_neg() and torch.equal(cpu(negative, k, v), want)


def test_read_only_arrays_and_broadcast_views_are_read():
    q, k, v = qkv()
    spread = np.broadcast_to(k[:1], k.shape)
    assert np.array_equal(cpu(q, spread, v), cpu(q, spread.copy(), v))
    row = torch.from_numpy(q[:, :, :1]).expand(q.shape)
    assert torch.equal(cpu(row, row, row), cpu(*[row.contiguous()] * 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("low", ["min", "-inf"])
def test_the_lowest_value_of_a_type_masks(dtype, low):
    q, k, v = (torch.from_numpy(x) for x in qkv())
    visible = torch.arange(k.shape[2]) % 3 > 0
    bias = torch.zeros(k.shape[2], dtype=dtype)
    bias[~visible] = torch.finfo(dtype).min if low == "min" else -torch.inf
    v[:, :, ~visible] = torch.nan
    assert torch.equal(cpu(q, k, v, bias), cpu(q, k, v, visible))


def test_lengths_are_padding_of_keys_and_queries():
    q, k, v = (torch.from_numpy(x) for x in qkv())
    n = k.shape[2]
    out = cpu(q, k, v, lengths=[n - 2] * q.shape[0])
    assert (out[:, :, n - 2 :] == 0).all()
    assert torch.equal(out, ea.attention(q, k, v, lengths=[n - 2] * q.shape[0], engine="cpu"))
    short = cpu(*(x[:, :, : n - 2] for x in (q, k, v)))
    assert rel_l2(out[:, :, : n - 2], short) < ERROR["float32"]


def test_threads_and_callers_side_by_side_never_change_the_bits():
    q, k, v = qkv(batch=3, n=70)
    plan = learned(q, k, v)
    want = cpu(q, k, v, plan=plan, threads=1)
    results = [None] * 4

    def call(i):
        results[i] = [cpu(q, k, v, plan=plan, threads=1 + i) for _ in range(5)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(results))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(out, want) for outs in results for out in outs)


def test_forward_works_where_a_gradient_is_wanted_and_backward_says_no():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in qkv())
    out, sums = cpu(q, k, v, return_log_sum_exp=True)
    assert not sums.requires_grad
    with pytest.raises(RuntimeError, match=r"expected inference only, got backward\(\)"):
        out.sum().backward()
    with torch.no_grad():
        assert torch.equal(cpu(q, k, v), out)


def test_one_target_is_selected_and_runs():
    targets = ea.cpu_targets()
    (selected,) = (t for t in targets if t.selected)
    assert selected.runs and selected.compiled_for
    assert targets[0].name == "portable" and targets[0].runs
    assert ea.cpu_name()


WIDE = np.zeros((1, 2, 3, 257), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (dict(query=[[1.0]]), TypeError, "query: expected a numpy array or torch tensor, got list"),
        (dict(key=torch.zeros(1, 2, 3, 4)), TypeError, "expected tensors of one kind, got query"),
        (dict(attn_mask=torch.ones(3, 3)), TypeError, "expected tensors of one kind"),
        (dict(query=Q.astype(int)), TypeError, "query: expected dtype float32.* got int64"),
        (dict(query=Q.astype(np.float16)), ValueError, "key: expected float16 as query, got"),
        (dict(attn_mask=np.ones((3, 3), int)), TypeError, "attn_mask: expected dtype bool"),
        (dict(query=Q[0]), ValueError, "one rank, 2 or more, got ranks 3, 4 and 4"),
        (dict(key=Q[:, :1], value=Q[:, :1]), ValueError, "expected 2 heads .* got 1"),
        (dict(query=Q[:, :1], enable_gqa=True), ValueError, "heads that divides 1, got 2"),
        (dict(key=Q[..., :3]), ValueError, "key: expected shape"),
        (dict(value=Q[:, :, :2]), ValueError, "value: expected shape"),
        (dict(key=np.repeat(Q, 2, 0)), ValueError, r"key: expected batch dimensions \[1\]"),
        (dict(query=Q[..., :0], key=Q[..., :0]), ValueError, "1 to 256 components, got 0"),
        (dict(query=WIDE, key=WIDE), ValueError, "query: expected 1 to 256 components, got 257"),
        (dict(value=WIDE), ValueError, "value: expected 1 to 256 components, got 257"),
        (dict(attn_mask=np.ones((2, 3), bool)), ValueError, "attn_mask: expected a shape that"),
        (dict(attn_mask=np.ones((1, 1, 1, 3, 3), bool)), ValueError, "attn_mask: expected a shape"),
        (dict(attn_mask=np.ones((3, 3), bool), is_causal=True), ValueError, "is_causal, got both"),
        (dict(scale=float("nan")), ValueError, "scale: expected a finite number"),
        (dict(lengths=[1, 2]), ValueError, "lengths: expected 1 values"),
        (dict(lengths=[4]), ValueError, "expected 0 to 3, got 4"),
        (dict(threads=0), ValueError, "threads: expected 1 or more, got 0"),
        (dict(layer="0"), TypeError, "layer: expected an integer, got '0'"),
        (dict(plan="plan.json"), TypeError, "plan: expected an elsa_attention.Plan, got str"),
        (dict(precision="half"), ValueError, "precision: expected auto, float32, 16bit or int8"),
        (dict(precision=16), TypeError, "precision: expected a word, got 16"),
        (dict(select="never"), ValueError, "select: expected auto or always, got never"),
        (dict(measure_mass=True), ValueError, "measure_mass: expected engine reference, got cpu"),
        (dict(random_keys_seed=1), ValueError, "random_keys_seed: expected engine reference"),
        (dict(engine="reference", precision="int8"), ValueError, "expected engine cpu, got ref"),
        (dict(engine="fixed", select="always"), ValueError, "select: expected engine cpu, got"),
        (dict(engine="sim", return_log_sum_exp=True), ValueError, "expected engine cpu, got sim"),
    ],
)
def test_what_makes_no_sense_is_refused(change, error, what):
    with pytest.raises(error, match=what) as caught:
        ea.attention(**{**dict(query=Q, key=Q, value=Q, engine="cpu"), **change})
    assert "\n" not in str(caught.value)


def test_outputs_that_overlap_are_refused():
    def attend(out, sums=None, mask=None):
        _core.cpu_attention(
            q, k, v, mask, None, (), (), None, False, False, None, 0, out, sums, 1,
            "auto", "auto", False,
        )  # fmt: skip

    q, k, v = (np.ones((1, 2, 3, 4), np.float32) for _ in range(3))
    out, sums = np.empty_like(q), np.empty((1, 2, 3), np.float32)
    attend(out, sums)
    assert (out == 1).all() and np.allclose(sums, np.log(3) + 2)
    twice = np.lib.stride_tricks.as_strided(sums, sums.shape, (24, 4, 4))
    for (to, of, mask), what in [
        ((q, None, None), "out: expected memory apart from the inputs, got .* with query"),
        ((out, None, out.view(bool).reshape(-1)[:18].reshape(1, 2, 3, 3)), "out: .* with mask"),
        ((out, None, out.reshape(-1)[:18].reshape(1, 2, 3, 3)), "out: .* with bias"),
        ((out, v[..., 0], None), "log_sum_exp: expected memory apart .* with value"),
        ((out, out[..., 0], None), "log_sum_exp: .* and out, got an overlap with out"),
        ((out, twice, None), "log_sum_exp: expected elements that do not overlap"),
    ]:
        with pytest.raises(ValueError, match=what) as caught:
            attend(to, of, mask)
        assert "\n" not in str(caught.value)


def test_results_have_memory_of_their_own():
    """Also where the query's does not suffice: one row, seen as many."""
    q, k, v = (torch.from_numpy(x) for x in qkv())
    row = q[:, :, :1].expand(q.shape)
    want = cpu(row.contiguous(), k, v)
    out, sums = cpu(row, k, v, return_log_sum_exp=True)
    assert torch.equal(out, want)
    assert torch.equal(torch.ops.elsa.attention(row, k, v), want)
    memory = [x.untyped_storage().data_ptr() for x in (row, k, v, out, sums)]
    assert len(set(memory)) == 5


def test_an_accelerator_is_refused():
    with pytest.raises(ValueError, match="accelerator: expected engine fixed or sim, got cpu"):
        cpu(Q, Q, Q, accelerator=ea.Accelerator())


def test_tensors_that_are_not_dense_on_the_cpu_are_refused():
    meta = torch.zeros(1, 2, 3, 4, device="meta")
    with pytest.raises(ValueError, match="query: expected a tensor on the CPU, got device meta"):
        cpu(meta, meta, meta)
    sparse = torch.zeros(3, 4).to_sparse()
    with pytest.raises(ValueError, match="query: expected a dense tensor"):
        cpu(sparse, sparse, sparse)


def test_plans_that_do_not_fit_are_refused():
    q, k, v = qkv()
    plan = learned(q, k, v)
    with pytest.raises(ValueError, match="layer: expected 0 to 0, got 1"):
        cpu(q, k, v, plan=plan, layer=1)
    with pytest.raises(ValueError, match="heads: expected 2 as in the input, got 3"):
        cpu(q[:, :2], k[:, :2], v[:, :2], plan=plan)
    with pytest.raises(RuntimeError, match="centring: expected off for causal attention"):
        cpu(q, k, v, is_causal=True, plan=learned(q, k, v, centring="on"))
