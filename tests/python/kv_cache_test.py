"""ea.KvCache against ea.attention on all the keys at once."""

import threading

import numpy as np
import pytest

import elsa_attention as ea

torch = pytest.importorskip("torch")
from attention_test import learned, normal, qkv  # noqa: E402

CLOSE = dict(rtol=1e-5, atol=1e-6)


def filled(keys, values, heads=None, **options):
    batch, kv_heads, _, d = keys.shape
    cache = ea.KvCache(
        heads=heads or kv_heads, kv_heads=kv_heads, d=d, d_v=values.shape[-1], batch=batch,
        **options,
    )  # fmt: skip
    cache.append(keys, values)
    return cache


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("as_tensor", [np.asarray, torch.from_numpy])
def test_steps_equal_attention_over_all_keys(planned, as_tensor):
    q, k, v = qkv(n=20)
    plan = learned(q, k, v) if planned else None
    q, k, v = (as_tensor(x) for x in (q, k, v))
    cache = filled(k[:, :, :5], v[:, :, :5], plan=plan)
    for n in range(6, 21):
        cache.append(k[:, :, n - 1 : n], v[:, :, n - 1 : n])
        out, stats = cache.attend(q[:, :, n - 1 : n], select="always", return_stats=True)
        want, counts = ea.attention(
            q[:, :, n - 1 : n], k[:, :, :n], v[:, :, :n], plan=plan, return_stats=True
        )
        assert type(out) is type(want) and stats == counts
        assert np.allclose(out, want, **CLOSE)
    assert len(cache) == 20 and cache.stats.appended == 20


def test_the_queries_are_the_last_positions_unless_they_see_all():
    q, k, v = (torch.from_numpy(x) for x in qkv(n=12))
    cache = filled(k, v)
    out, sums = cache.attend(q[:, :, 9:], return_log_sum_exp=True)
    want, all_sums = ea.attention(q, k, v, is_causal=True, engine="cpu", return_log_sum_exp=True)
    assert torch.allclose(out, want[:, :, 9:], **CLOSE)
    assert torch.allclose(sums, all_sums[:, :, 9:], **CLOSE)
    assert torch.allclose(cache.attend(q, is_causal=False), ea.attention(q, k, v), **CLOSE)


def test_groups_share_keys_and_masks_hide_padding():
    k, v = (torch.from_numpy(normal(2, 2, 9, 16, seed=s)) for s in (1, 2))
    q = torch.from_numpy(normal(2, 6, 1, 16, seed=3))
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[1, ..., :4] = False
    cache = filled(k, v, heads=6)
    want = ea.attention(q, k, v, mask, enable_gqa=True)
    assert torch.allclose(cache.attend(q, mask), want, **CLOSE)
    half = torch.zeros(9, dtype=torch.float16)
    half[:4] = torch.finfo(torch.float16).min
    want = ea.attention(q, k, v, half, enable_gqa=True)
    assert torch.allclose(cache.attend(q, half), want, **CLOSE)


def test_evict_truncate_and_reorder():
    q, k, v = (torch.from_numpy(x) for x in qkv(n=10))
    cache = filled(k, v)
    cache.evict_front(3)
    cache.truncate(5)
    assert len(cache) == 5 and cache.stats.evicted == 3
    one = q[:, :, :1]
    want = ea.attention(one, k[:, :, 3:8], v[:, :, 3:8])
    assert torch.allclose(cache.attend(one), want, **CLOSE)
    cache.reorder(torch.tensor([1, 1, 0]))
    assert cache.batch == 3
    rows = [1, 1, 0]
    want = ea.attention(one[rows], k[rows, :, 3:8], v[rows, :, 3:8])
    assert torch.allclose(cache.attend(one[rows]), want, **CLOSE)
    cache.clear()
    assert len(cache) == 0
    assert (cache.attend(one[rows], is_causal=False) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_storage(dtype):
    q, k, v = (torch.from_numpy(x).to(dtype) for x in qkv(n=12))
    one = q[:, :, -1:]
    want = ea.attention(one.float(), k.float(), v.float())
    for stored in (dtype, str(dtype).removeprefix("torch.")):
        out = filled(k, v, dtype=stored).attend(one)
        assert out.dtype == dtype
        assert torch.allclose(out.float(), want, atol=4 * torch.finfo(dtype).eps)
    if dtype == torch.float16:
        assert filled(k, v, dtype=np.float16).nbytes < filled(k, v, dtype=np.float32).nbytes


def test_what_cannot_be_read_in_place_is_copied():
    q, k, v = (torch.from_numpy(x) for x in qkv(n=6))
    one = q[:, :, -1:]
    want = filled(k, v).attend(one)
    gaps = [torch.stack([x, x], -1)[..., 0] for x in (k, v, one)]
    assert torch.equal(filled(*gaps[:2]).attend(gaps[2]), want)
    double = filled(k.double(), v.double()).attend(one.double())
    assert double.dtype == torch.float64 and torch.equal(double.float(), want)


def test_a_batch_of_one_may_be_left_out():
    q, k, v = (x[0] for x in qkv(batch=1))
    cache = ea.KvCache(heads=3, d=16, capacity=100)
    assert cache.capacity >= 100
    cache.append(k, v)
    out = cache.attend(q[:, -1:])
    assert out.shape == (3, 1, 16)
    assert np.allclose(out, ea.attention(q[:, -1:], k, v), **CLOSE)


def test_threads_take_turns():
    q, k, v = qkv(n=30)
    cache = filled(k[:, :, :0], v[:, :, :0])

    def work():
        for i in range(30):
            cache.append(k[:, :, i : i + 1], v[:, :, i : i + 1])
            cache.attend(q[:, :, :1], is_causal=False)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(cache) == 120


def test_bad_input_is_refused_and_changes_nothing():
    q, k, v = qkv(n=6)
    cache = filled(k, v)
    for call, error, what in [
        (lambda: ea.KvCache(heads=3, kv_heads=2, d=16), ValueError, "heads: expected a multiple"),
        (lambda: ea.KvCache(heads=1, d=257), ValueError, "d: expected 1 to 256, got 257"),
        (lambda: ea.KvCache(heads=1, d=2.5), TypeError, "d: expected an integer, got 2.5"),
        (lambda: ea.KvCache(heads=1, d=8, dtype="int8"), ValueError, "dtype: expected float32"),
        (lambda: ea.KvCache(heads=1, d=8, dtype=torch.int8), ValueError, "got int8"),
        (lambda: ea.KvCache(heads=1, d=8, plan="x"), TypeError, "plan: expected an elsa_atten"),
        (lambda: ea.KvCache(heads=2, d=16, plan=learned(q, k, v)), ValueError, "heads: expected"),
        (lambda: cache.append(k[..., :8], v), ValueError, "key: expected shape"),
        (lambda: cache.append(k, v[:, :, :2]), ValueError, "value: expected shape"),
        (lambda: cache.append(k[0], v), ValueError, "one rank, 2 to 4, got 3 and 4"),
        (lambda: cache.append(k.astype(int), v), TypeError, "key: expected dtype float32"),
        (lambda: cache.append(torch.from_numpy(k), v), TypeError, "tensors of one kind"),
        (lambda: cache.attend(q[:, :2]), ValueError, "query: expected shape"),
        (lambda: cache.attend(q[None]), ValueError, "query: expected one rank, 2 to 4, got 5"),
        (lambda: cache.attend(np.repeat(q, 2, 2)), ValueError, "expected 0 to 6, got 12"),
        (lambda: cache.attend(q, np.ones(5, bool)), ValueError, "attn_mask: expected a shape"),
        (lambda: cache.attend(q, select="never"), ValueError, "select: expected auto or always"),
        (lambda: cache.evict_front(7), ValueError, "expected 0 to 6, got 7"),
        (lambda: cache.truncate(-1), ValueError, "expected 0 to 6, got -1"),
        (lambda: cache.reorder([2]), ValueError, "expected 0 to 1, got 2"),
        (lambda: cache.reorder([0.5]), TypeError, "rows: expected an integer, got 0.5"),
    ]:  # fmt: skip
        with pytest.raises(error, match=what) as caught:
            call()
        assert "\n" not in str(caught.value)
    wanted = torch.from_numpy(k).requires_grad_()
    with pytest.raises(RuntimeError, match="KvCache.append: expected inference only"):
        cache.append(wanted, torch.from_numpy(v))
    assert len(cache) == 6 and cache.batch == 2


def test_outputs_that_overlap_are_refused():
    q, k, v = qkv(n=6)
    cache = filled(k, v)._native
    mask = np.ones((*q.shape[:3], 6), bool)
    out, sums = np.empty_like(q), np.empty(q.shape[:3], np.float32)
    options = (1, "auto", False, False)
    cache.attend(q, mask, None, None, True, out, sums, *options)
    for (to, of), what in [
        ((q, sums), "out: expected memory apart from the inputs, got an overlap with query"),
        ((out, q[..., 0]), "log_sum_exp: expected memory apart .* with query"),
        ((out, out[..., 0]), "log_sum_exp: .* and out, got an overlap with out"),
    ]:
        with pytest.raises(ValueError, match=what):
            cache.attend(q, mask, None, None, True, to, of, *options)
