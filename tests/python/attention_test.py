"""ea.attention against torch, numpy and short second implementations written from the paper."""

import math

import numpy as np
import pytest

import elsa_attention as ea
from elsa_attention.inputs import prepare

torch = pytest.importorskip("torch")
sdpa = torch.nn.functional.scaled_dot_product_attention


def random_case(seed):
    """Shapes, tensors, and the keywords of one random call; torch float32."""
    rng = np.random.default_rng(seed)
    kv_heads = int(rng.integers(1, 4))
    heads = kv_heads * int(rng.integers(1, 4))
    batch, d, d_v = int(rng.integers(1, 4)), int(rng.integers(1, 70)), int(rng.integers(1, 20))
    n_q, n_k = int(rng.integers(1, 24)), int(rng.integers(1, 24))

    def tensor(*shape):
        x = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        order = rng.permutation(len(shape))  # any strides
        return x.permute(*order).contiguous().permute(*np.argsort(order))

    q = tensor(batch, heads, n_q, d)
    k, v = tensor(batch, kv_heads, n_k, d), tensor(batch, kv_heads, n_k, d_v)
    options = dict(enable_gqa=heads != kv_heads)
    if rng.random() < 0.3:
        options["scale"] = float(rng.uniform(0.01, 1))
    mask_shapes = [
        (batch, heads, n_q, n_k), (batch, 1, 1, n_k), (1, heads, n_q, 1), (n_q, n_k), (n_k,)
    ]  # fmt: skip
    shape = mask_shapes[rng.integers(len(mask_shapes))]
    match rng.integers(4):
        case 0:
            options["is_causal"] = True
        case 1:
            mask = torch.from_numpy(rng.random(shape) < 0.7)
            mask[..., 0] = True  # a row that sees nothing is another test
            options["attn_mask"] = mask
        case 2:
            options["attn_mask"] = tensor(*shape) * 2
    return q, k, v, options


def in_double(q, k, v, options):
    """torch's own attention on the same float32 values in float64."""
    options = dict(options)
    mask = options.get("attn_mask")
    if mask is not None:
        mask = mask if mask.dtype == torch.bool else mask.double()
        options["attn_mask"] = mask.expand(*q.shape[:3], k.shape[2])  # torch wants rank 2 or more
    return sdpa(q.double(), k.double(), v.double(), **options)


@pytest.mark.parametrize("seed", range(60))
def test_equals_torch_in_double_to_float_rounding(seed):
    q, k, v, options = random_case(seed)
    out = ea.attention(q, k, v, **options)
    assert out.dtype == torch.float32
    # Sums are double: the only error is the last rounding, 2^-24, and a little of exp.
    torch.testing.assert_close(out.double(), in_double(q, k, v, options), rtol=1.2e-7, atol=1e-9)


@pytest.mark.parametrize("seed", range(60, 70))
def test_numpy_and_torch_give_the_same_bits(seed):
    q, k, v, options = random_case(seed)
    expected = ea.attention(q, k, v, **options)
    mask = options.pop("attn_mask", None)
    options["attn_mask"] = None if mask is None else mask.numpy()
    out = ea.attention(q.numpy(), k.numpy(), v.numpy(), **options)
    assert isinstance(out, np.ndarray)
    assert np.array_equal(out, expected.numpy())


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def qkv(batch=2, heads=3, n=9, d=16, seed=0):
    return tuple(normal(batch, heads, n, d, seed=seed + i) for i in range(3))


def learned(q, k, v, **options):
    return ea.calibrate([(0, q, k, v)], **{"p": 1, **options})


# ---- kinds, dtypes, ranks ----


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float64, 1e-6)],
)
def test_other_float_types_give_their_own_type(dtype, tolerance):
    q, k, v = (torch.from_numpy(x).to(dtype) for x in qkv())
    out = ea.attention(q, k, v)
    assert out.dtype == dtype
    expected = sdpa(q.double(), k.double(), v.double())
    assert torch.allclose(out.double(), expected, atol=tolerance)


def test_numpy_float_types_and_byte_orders_are_kept():
    q, k, v = qkv()
    expected = ea.attention(q, k, v)
    for dtype in (np.float64, ">f4"):
        out = ea.attention(*(x.astype(dtype) for x in (q, k, v)))
        assert out.dtype == np.dtype(dtype)
        assert np.array_equal(out.astype(np.float32), expected)
    assert ea.attention(*(x.astype(np.float16) for x in (q, k, v))).dtype == np.float16


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 2, 3), (1, 2, 2, 3)])
def test_any_rank_from_2_on(lead):
    q, k, v = (torch.from_numpy(normal(*lead, 7, 8, seed=i)) for i in range(3))
    mask = torch.from_numpy(normal(*lead, 7, 7) > -1)
    mask[..., 0] = True
    out = ea.attention(q, k, v, mask)
    assert out.shape == (*lead, 7, 8)
    assert torch.allclose(out, sdpa(q, k, v, attn_mask=mask), atol=1e-6)


def test_of_rank_3_the_first_dimension_is_heads():
    q, k, v = qkv(batch=1)
    plan = learned(q, k, v)
    expected = ea.attention(q, k, v, plan=plan)[0]
    assert np.array_equal(ea.attention(q[0], k[0], v[0], plan=plan), expected)


@pytest.mark.parametrize("n_q, n_k", [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_empty_and_single_sequences(n_q, n_k):
    q, k, v = normal(1, 2, n_q, 8), normal(1, 2, n_k, 8), normal(1, 2, n_k, 4)
    out, stats = ea.attention(q, k, v, return_stats=True)
    assert out.shape == (1, 2, n_q, 4)
    assert np.array_equal(out, np.repeat(v[:, :, :1], n_q, 2) if n_k else np.zeros_like(out))
    assert stats[0].pairs == n_q * n_k


# ---- nothing is copied ----


def test_float32_is_read_in_place_whatever_its_strides():
    x = normal(2, 9, 3, 32)
    views = [
        x.transpose(0, 2, 1, 3),
        x.transpose(0, 2, 1, 3)[:, :, ::-1, ::2],
        np.broadcast_to(x[:1, :1], x.shape).transpose(0, 2, 1, 3),
    ]
    for view in views:
        inputs = prepare(view, view, view)
        for array in (inputs.query, inputs.key, inputs.value):
            assert np.shares_memory(array, x) and array.strides == view.strides
        assert np.array_equal(ea.attention(view, view, view), ea.attention(*[view.copy()] * 3))


def test_torch_float32_is_read_in_place():
    x = torch.randn(2, 9, 3, 16)
    view = x.transpose(1, 2).requires_grad_()
    inputs = prepare(view, view, view)
    assert inputs.query.ctypes.data == x.data_ptr()
    assert inputs.query.strides == tuple(4 * stride for stride in view.stride())


def test_masks_are_broadcast_not_copied():
    q, k, v = qkv()
    row = np.ones((2, 1, 1, 9), bool)
    mask = prepare(q, k, v, row).mask
    assert np.shares_memory(mask, row) and mask.strides[1:3] == (0, 0)
    bias = normal(3, 1, 9)
    spread = prepare(q, k, v, bias).bias
    assert np.shares_memory(spread, bias) and spread.strides[0] == spread.strides[2] == 0


def test_views_into_records_are_read_right():
    records = np.zeros((2, 3, 9, 16), np.dtype([("pad", "i1"), ("x", "f4")]))
    q, k, v = qkv()
    records["x"] = q
    assert np.array_equal(ea.attention(records["x"], k, v), ea.attention(q, k, v))


# ---- masks and lengths ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("low", ["min", "-inf"])
def test_the_lowest_value_of_a_type_masks(dtype, low):
    q, k, v = (torch.from_numpy(x) for x in qkv())
    visible = torch.from_numpy(normal(2, 1, 9, 9) > -0.5)
    visible[..., 0] = True
    fill = torch.finfo(dtype).min if low == "min" else -math.inf
    bias = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, fill)
    out, stats = ea.attention(q, k, v, bias, return_stats=True)
    expected, expected_stats = ea.attention(q, k, v, visible, return_stats=True)
    assert torch.equal(out, expected)
    assert stats == expected_stats  # invisible, not merely unlikely
    assert low == "-inf" or torch.isfinite(bias).all()  # the caller's mask is left alone


def test_rows_that_see_nothing_are_zero():
    q, k, v = qkv()
    mask = np.ones((2, 1, 9, 9), bool)
    mask[0, 0, 4] = False
    out, stats = ea.attention(q, k, v, mask, return_stats=True)
    assert (out[0, :, 4] == 0).all() and np.isfinite(out).all()
    assert [s.empty_queries for s in stats] == [1, 1, 1]


def test_lengths_are_padding_of_keys_and_queries():
    q, k, v = qkv()
    plan = learned(q, k, v, remainder="mean")
    for lengths in ([9, 4], np.array([9, 4]), torch.tensor([9, 4])):
        out, stats = ea.attention(q, k, v, plan=plan, lengths=lengths, return_stats=True)
        assert (out[1, :, 4:] == 0).all()
        alone = ea.attention(q[1:, :, :4], k[1:, :, :4], v[1:, :, :4], plan=plan)
        assert np.array_equal(out[1:, :, :4], alone)
        assert stats[0].queries == 13 and stats[0].pairs == 81 + 16


def test_lengths_limit_only_the_keys_of_cross_attention():
    q, k, v = normal(2, 3, 5, 16), normal(2, 3, 9, 16), normal(2, 3, 9, 16)
    out = ea.attention(q, k, v, lengths=[9, 4])
    assert np.array_equal(out[1], ea.attention(q[1], k[1, :, :4], v[1, :, :4]))


def test_what_padding_holds_changes_nothing():
    q, k, v = qkv()
    plan = learned(q, k, v, remainder="mean", centring="on")
    expected = ea.attention(q, k, v, plan=plan, lengths=[9, 4])
    for x in (q, k, v):
        x[1, :, 4:] = np.nan
    assert np.array_equal(ea.attention(q, k, v, plan=plan, lengths=[9, 4]), expected)


def test_nan_is_never_hidden_and_never_leaks_through_a_mask():
    q, k, v = qkv()
    plan = learned(q, k, v, p=4)
    k[0, 0, 3] = np.nan
    for chosen in (None, plan):
        out = ea.attention(q, k, v, plan=chosen)
        assert np.isnan(out[0, 0]).all() and np.isfinite(out[0, 1:]).all()
        mask = np.arange(9) != 3
        assert np.isfinite(ea.attention(q, k, v, mask, plan=chosen)).all()


# ---- plans ----


@pytest.mark.parametrize("remainder", ["none", "mean"])
def test_p_0_is_exact(remainder):
    q, k, v = qkv()
    plan = learned(q, k, v, p=0, remainder=remainder)
    out, stats = ea.attention(q, k, v, plan=plan, return_stats=True)
    assert np.array_equal(out, ea.attention(q, k, v))
    assert all(s.kept_fraction == 1 and s.exact_queries == s.queries == 18 for s in stats)


def test_everything_kept_is_exact_with_the_mean_row_too():
    q, k, v = qkv()
    plan = learned(q, k, v, remainder="mean").replace(thresholds=[[-2.0] * 3])
    out, stats = ea.attention(q, k, v, plan=plan, return_stats=True)
    assert all(s.kept == s.pairs and s.exact_queries == 0 for s in stats)
    np.testing.assert_allclose(out, ea.attention(q, k, v), rtol=1e-6, atol=1e-7)


def kronecker_bits(x, hash):
    """sign((A1 (x) A2 (x) ...) x), binary32, the last factor first (Sec. III-C)."""
    bits = []
    for count, factors in hash.factors:
        y = x.reshape([cols for _, cols, _ in factors])
        for axis in reversed(range(len(factors))):
            rows, cols, values = factors[axis]
            a = np.array(values, np.float32).reshape(rows, cols)
            y = np.moveaxis(y, axis, 0)
            total = a[:, 0].reshape(-1, *[1] * (y.ndim - 1)) * y[0]
            for c in range(1, cols):
                total = total + a[:, c].reshape(-1, *[1] * (y.ndim - 1)) * y[c]
            y = np.moveaxis(total, 0, axis)
        bits.append((y.reshape(-1) >= 0)[:count])
    return np.concatenate(bits)


def norm(x):
    """The defined order of elsa/reference/similarity.h: 16 sums, halves onto halves."""
    sums = np.zeros(16, np.float32)
    for i, value in enumerate(x):
        sums[i % 16] += value * value
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return np.sqrt(sums[0])


def paper_candidates(q, k, hash, theta_bias, t):
    """Sec. III-D and III-E for one query: the keys whose estimated similarity exceeds t * max."""
    query_bits, norms = kronecker_bits(q, hash), np.array([norm(key) for key in k])
    similarities = []
    for key, length in zip(k, norms, strict=True):
        distance = int((query_bits != kronecker_bits(key, hash)).sum())
        angle = min(max(math.pi / hash.bits * distance - theta_bias, 0.0), math.pi)
        similarities.append(length * np.float32(math.cos(angle)))
    kept = [j for j, s in enumerate(similarities) if s > np.float32(t) * norms.max()]
    return kept or [int(np.argmax(similarities))]


def test_candidates_equal_the_papers_rule_on_200_random_cases():
    rng = np.random.default_rng(5)
    kinds = ["kronecker3", "kronecker2", "dense", "gaussian"]
    plans = {}
    seen = dict(empty=0, non_positive=0, some=0)
    for case in range(200):
        d = int(rng.choice([8, 12, 16, 27, 32, 64]))
        bits = int(rng.choice([16, 64, 80]))
        kind = kinds[case % 4]
        n = int(rng.integers(1, 20))
        q, k = (rng.standard_normal((1, 1, n, d)).astype(np.float32) for _ in range(2))
        if (kind, d, bits) not in plans:
            plans[kind, d, bits] = learned(
                q, k, k, hash=kind, hash_bits=bits, seed=case, theta_bias=rng.uniform(0, 0.3)
            )
        t = float(rng.choice([0.0, -0.0, *rng.uniform(-1, 1, 4)]))
        plan = plans[kind, d, bits].replace(thresholds=[[t]])
        query = int(rng.integers(n))
        told = ea.explain(q, k, k, plan=plan, head=0, query_index=query)
        kept = paper_candidates(q[0, 0, query], k[0, 0], plan.hash, plan.theta_bias_rad[0][0], t)
        assert told.kept == kept, f"case {case}: {kind} d={d} k={bits} n={n} t={t}"
        seen["non_positive"] += t <= 0
        seen["empty"] += told.fallback
        seen["some"] += 1 < len(kept) < n
    assert min(seen.values()) >= 20, seen  # the cases are not all of one sort


def test_output_is_softmax_over_the_kept_keys():
    q, k, v = qkv(n=12)
    plan = learned(q, k, v)
    out = ea.attention(q, k, v, plan=plan)
    for b, h, i in np.ndindex(2, 3, 12):
        kept = ea.explain(q, k, v, plan=plan, head=h, batch=b, query_index=i).kept
        expected = ea.attention(q[b, h, i : i + 1], k[b, h, kept], v[b, h, kept])
        np.testing.assert_allclose(out[b, h, i], expected[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("how", ["all", "causal", "mask", "bias"])
def test_the_mean_row_replaces_the_dropped_rows(how):
    q, k, v = qkv(n=12)
    rng = np.random.default_rng(3)
    mask = rng.random((12, 12)) < 0.8
    bias = rng.standard_normal((3, 12, 12)).astype(np.float32)
    options = {
        "all": {},
        "causal": dict(is_causal=True),
        "mask": dict(attn_mask=mask),
        "bias": dict(attn_mask=bias),
    }[how]
    plan = learned(q, k, v, p=2, remainder="mean")
    out = ea.attention(q, k, v, plan=plan, **options)
    dropped_any = False
    for b, h, i in np.ndindex(2, 3, 12):
        told = ea.explain(q, k, v, plan=plan, head=h, batch=b, query_index=i, **options)
        visible = [key.key for key in told.keys]
        if not visible:
            continue
        keys, values = (x[b, h].astype(np.float64) for x in (k, v))
        added = bias[h, i].astype(np.float64) if how == "bias" else np.zeros(12)
        dropped = sorted(set(visible) - set(told.kept))
        dropped_any |= bool(dropped)
        # means over all visible keys, taken before any row is replaced
        means = [x[visible].mean(0) for x in (keys, values, added)]
        for x, mean in zip((keys, values, added), means, strict=True):
            x[dropped] = mean
        scores = keys[visible] @ q[b, h, i].astype(np.float64) / 4 + added[visible]
        weights = np.exp(scores - scores.max())
        expected = weights @ values[visible] / weights.sum()
        np.testing.assert_allclose(out[b, h, i], expected, rtol=1e-6, atol=1e-7)
    assert dropped_any


def test_statistics_count_pairs_and_mass():
    q, k, v = qkv(n=12)
    plan = learned(q, k, v)
    _, stats = ea.attention(q, k, v, plan=plan, return_stats=True, measure_mass=True)
    for h, head in enumerate(stats):
        queries = [
            ea.explain(q, k, v, plan=plan, head=h, batch=b, query_index=i)
            for b, i in np.ndindex(2, 12)
        ]
        assert head.kept == sum(len(one.kept) for one in queries)
        assert head.pairs == 2 * 144 and head.queries == 24
        assert head.mass_kept == pytest.approx(np.mean([one.mass_kept for one in queries]))
        weights = [sum(key.weight for key in one.keys if key.kept) for one in queries]
        assert head.mass_kept == pytest.approx(np.mean(weights), abs=1e-9)
    _, unmeasured = ea.attention(q, k, v, plan=plan, return_stats=True)
    assert unmeasured[0].mass_kept is None and (unmeasured[0] + stats[0]).mass_kept is None
    total = ea.HeadStats.total(stats)
    assert total.pairs == 3 * 288 and 0 < total.kept_fraction < 1


def test_larger_p_never_keeps_more():
    q, k, v = qkv(n=40)
    kept = []
    for plan in ea.calibrate_many([(0, q, k, v)], settings=[dict(p=p) for p in (0, 0.5, 1, 2, 4)]):
        _, stats = ea.attention(q, k, v, plan=plan, return_stats=True)
        kept.append([s.kept for s in stats])
    assert all(a >= b for one, two in zip(kept, kept[1:]) for a, b in zip(one, two))  # noqa: B905
    assert kept[0] > kept[-1]


def test_random_keys_are_repeatable_and_as_many():
    q, k, v = qkv(n=30)
    plan = learned(q, k, v)
    runs = [
        ea.attention(q, k, v, plan=plan, random_keys_seed=seed, return_stats=True)
        for seed in (None, 3, 3, 4)
    ]
    assert np.array_equal(runs[1][0], runs[2][0])
    assert not np.array_equal(runs[1][0], runs[3][0])
    assert len({tuple(s.kept for s in stats) for _, stats in runs}) == 1


def test_threads_never_change_the_result():
    q, k, v = qkv(n=30)
    plan = learned(q, k, v, remainder="mean")
    outs = [ea.attention(q, k, v, plan=plan, threads=threads) for threads in (None, 1, 2, 7)]
    assert all(np.array_equal(out, outs[0]) for out in outs)


def test_explanations_are_of_one_decision():
    q, k, v = qkv(n=12)
    plan = learned(q, k, v)
    tokens = [f"word{i}" for i in range(12)]
    told = ea.explain(q, k, v, plan=plan, head=1, query_index=5, batch=1, tokens=tokens)
    assert (told.layer, told.head, told.batch, told.query) == (0, 1, 1, 5)
    assert told.threshold == plan.thresholds[0][1]
    assert sum(key.weight for key in told.keys) == pytest.approx(1)
    for key in told.keys:
        assert f"'word{key.key}'" in key.why
        assert key.kept == (key.similarity > told.cut_off) or told.fallback
        true = math.acos(
            np.dot(q[1, 1, 5], k[1, 1, key.key])
            / (np.linalg.norm(q[1, 1, 5]) * np.linalg.norm(k[1, 1, key.key]))
        )
        assert key.true_angle_rad == pytest.approx(true, abs=1e-5)
    with pytest.raises(ValueError, match="head"):
        ea.explain(q, k, v, plan=plan, head=3, query_index=0)


# ---- gradients ----


def test_forward_works_where_a_gradient_is_wanted_and_backward_says_no():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in qkv())
    out = ea.attention(q, k, v)
    assert out.requires_grad
    with pytest.raises(RuntimeError, match=r"expected inference only, got backward\(\)"):
        out.sum().backward()
    with torch.no_grad():
        assert not ea.attention(q, k, v).requires_grad


def test_a_learned_bias_gets_no_silent_gradient():
    q, k, v = (torch.from_numpy(x) for x in qkv())
    bias = torch.zeros(9, 9, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradient"):
        ea.attention(q, k, v, bias).sum().backward()


# ---- refusals ----

Q = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (dict(query=[[1.0]]), TypeError, "query: expected a numpy array or torch tensor, got list"),
        (dict(key=torch.zeros(1, 2, 3, 4)), TypeError, "expected tensors of one kind, got query"),
        (dict(attn_mask=torch.ones(3, 3)), TypeError, "expected tensors of one kind"),
        (dict(query=Q.astype(int)), TypeError, "query: expected dtype float32.* got int64"),
        (dict(value=Q.astype(complex)), TypeError, "value: expected dtype"),
        (dict(attn_mask=np.ones((3, 3), int)), TypeError, "attn_mask: expected dtype bool"),
        (dict(query=Q[0]), ValueError, "one rank, 2 or more, got ranks 3, 4 and 4"),
        (dict(query=Q[0, 0, 0], key=Q[0, 0, 0], value=Q[0, 0, 0]), ValueError, "ranks 1, 1 and 1"),
        (dict(key=Q[:, :1], value=Q[:, :1]), ValueError, "expected 2 heads .* got 1"),
        (dict(query=Q[:, :1], enable_gqa=True), ValueError, "heads that divides 1, got 2"),
        (dict(key=Q[..., :3]), ValueError, "key: expected shape"),
        (dict(value=Q[:, :, :2]), ValueError, "value: expected shape"),
        (dict(key=np.repeat(Q, 2, 0)), ValueError, r"key: expected batch dimensions \[1\]"),
        (dict(query=Q[..., :0], key=Q[..., :0]), ValueError, "d of 1 or more, got 0"),
        (dict(attn_mask=np.ones((2, 3), bool)), ValueError, "attn_mask: expected a shape that"),
        (dict(attn_mask=np.ones((1, 1, 1, 3, 3), bool)), ValueError, "attn_mask: expected a shape"),
        (dict(attn_mask=np.ones((3, 3), bool), is_causal=True), ValueError, "is_causal, got both"),
        (dict(scale=float("nan")), ValueError, "scale: expected a finite number"),
        (dict(lengths=[1, 2]), ValueError, "lengths: expected 1 values"),
        (dict(lengths=[4]), ValueError, "expected 0 to 3, got 4"),
        (
            dict(engine="gpu"),
            ValueError,
            "engine: expected one of reference, cpu, fixed, sim, got 'gpu'",
        ),
        (dict(threads=0), ValueError, "threads: expected 1 or more, got 0"),
        (dict(threads=10**12), ValueError, "threads: expected at most"),
        (dict(threads=1.5), TypeError, "threads: expected an integer, got 1.5"),
        (dict(random_keys_seed=-1), ValueError, "random_keys_seed: expected 0 or more, got -1"),
        (dict(random_keys_seed=2**70), ValueError, "random_keys_seed: expected at most"),
        (dict(layer="0"), TypeError, "layer: expected an integer, got '0'"),
        (dict(layer=10**30), ValueError, "layer: expected at most"),
        (dict(lengths=3), ValueError, "lengths: expected 1 values, one per batch entry, got 3"),
        (dict(lengths=[1.5]), TypeError, "lengths: expected an integer, got 1.5"),
        (dict(plan="plan.json"), TypeError, "plan: expected an elsa_attention.Plan, got str"),
    ],
)
def test_what_makes_no_sense_is_refused(change, error, what):
    with pytest.raises(error, match=what):
        ea.attention(**{**dict(query=Q, key=Q, value=Q), **change})


def test_tensors_that_are_not_dense_on_the_cpu_are_refused():
    meta = torch.zeros(1, 2, 3, 4, device="meta")
    with pytest.raises(ValueError, match="query: expected a tensor on the CPU, got device meta"):
        ea.attention(meta, meta, meta)
    sparse = torch.zeros(3, 4).to_sparse()
    with pytest.raises(ValueError, match="query: expected a dense tensor"):
        ea.attention(sparse, sparse, sparse)


def test_plans_that_do_not_fit_are_refused():
    q, k, v = qkv()
    plan = learned(q, k, v)
    for change, what in [
        (dict(layer=1), "layer: expected 0 to 0, got 1"),
        (dict(layer=-1), "layer: expected 0 to 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=what):
            ea.attention(q, k, v, plan=plan, **change)
    with pytest.raises(ValueError, match="heads: expected 2 as in the input, got 3"):
        ea.attention(q[:, :2], k[:, :2], v[:, :2], plan=plan)
    wide_q, wide_k = (np.concatenate([x, x], axis=-1) for x in (q, k))
    with pytest.raises(ValueError, match="hash.d: expected 32 or more as in the input, got 16"):
        ea.attention(wide_q, wide_k, v, plan=plan)
    with pytest.raises(ValueError, match="hash.d: expected 32 or more as in the input, got 16"):
        ea.explain(wide_q, wide_k, v, plan=plan, head=0, query_index=0)
    centred = learned(q, k, v, centring="on")
    with pytest.raises(RuntimeError, match="centring: expected off for causal attention"):
        ea.attention(q, k, v, is_causal=True, plan=centred)
