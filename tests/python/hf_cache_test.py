"""Run.kv_cache(): decoding as with transformers' own cache, without hashing all keys again."""

import copy

import pytest

import elsa_attention as ea
import tiny_models

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers import DynamicCache  # noqa: E402

from hf_test import DECODERS, SIZES, TEXT, batch_of, build, plan_for  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

WINDOWS = {
    "mistral": lambda: transformers.MistralForCausalLM(tiny_models.config("mistral")),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(  # one layer of full attention, two of windows
        transformers.Qwen2Config(
            **SIZES, **TEXT, num_key_value_heads=2, use_sliding_window=True, sliding_window=5,
            max_window_layers=1,
        )
    ),
}  # fmt: skip


def windowed(name):
    torch.manual_seed(0)
    model = WINDOWS[name]().eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def applied(model, plan, **options):
    return ea.applied(model, plan, engine="cpu", **({"select": "always"} | options))


def tokens(width, batch=1, seed=3):
    return torch.randint(4, 20, (batch, width), generator=torch.Generator().manual_seed(seed))


def assert_generates_alike(model, plan, batch, **options):
    """generate() with transformers' cache and with ours: the same tokens and counts."""
    options = dict(max_new_tokens=9, do_sample=False) | options
    with applied(model, plan) as run:
        expected, counts = model.generate(**batch, **options), run.stats
        run.reset()
        cache = run.kv_cache()
        got = model.generate(**batch, **options, past_key_values=cache)
    assert torch.equal(got, expected)
    assert run.stats == counts
    return cache


def steps(model, cache, chunks):
    """Logits of token chunks fed one after the other."""
    with torch.inference_mode():
        return [model(input_ids=ids, past_key_values=cache).logits for ids in chunks]


def assert_close(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)  # logits up to 10, three layers of 1e-6


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("lengths", [[9], [6, 9, 3]])
@pytest.mark.parametrize("name", DECODERS)
def test_generates_what_transformers_own_cache_does(name, lengths, planned):
    model = build(name)
    batch = batch_of(lengths, side="left")
    plan = plan_for(model, 1, batch, remainder="mean") if planned else None
    cache = assert_generates_alike(model, plan, batch)
    assert cache.get_seq_length() == 9 + 9 - 1
    assert all(layer.kv.stats.appended == 17 for layer in cache.layers)


@pytest.mark.parametrize("name", DECODERS)
def test_beams_are_reordered(name):
    model = build(name)
    batch = batch_of([6, 9], side="left")
    cache = assert_generates_alike(model, plan_for(model, 1, batch), batch, num_beams=3)
    assert cache.layers[0].kv.batch == 6


@pytest.mark.parametrize("name", [*DECODERS, *WINDOWS])
def test_rejected_candidates_are_cropped(name):
    model = build(name) if name in DECODERS else windowed(name)
    ids = torch.cat([tokens(5)] * 2, dim=1)  # repeats itself, so that candidates are found
    batch = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    plan = plan_for(model, 1, dict(input_ids=ids))
    assert_generates_alike(model, plan, batch, prompt_lookup_num_tokens=3)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("lengths", [[9], [4, 9], [2]])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_slide(name, lengths, beams):
    model = windowed(name)
    batch = batch_of(lengths, side="left")
    batch["input_ids"] %= 20
    plan = plan_for(model, 1, batch, remainder="mean")
    cache = assert_generates_alike(model, plan, batch, num_beams=beams)
    window = model.config.sliding_window
    assert len(cache.layers[-1].kv) == window
    assert cache.layers[-1].kv.stats.evicted > 0


def test_of_a_long_prompt_two_windows_stay():
    model = windowed("mistral")
    ids = tokens(20)
    with applied(model, plan_for(model, 1, dict(input_ids=ids))) as run:
        cache = run.kv_cache()
        assert_close(
            steps(model, cache, [ids, ids[:, :1]]),
            steps(model, DynamicCache(config=model.config), [ids, ids[:, :1]]),
        )
    assert cache.layers[0].kv.stats.appended == 2 * 3 + 1
    assert cache.get_seq_length() == 21 and cache.get_max_length(0) == 3


@pytest.mark.parametrize("name", [*DECODERS, *WINDOWS])
def test_a_prompt_may_come_in_pieces(name):
    model = build(name) if name in DECODERS else windowed(name)
    ids = tokens(24, batch=2)
    chunks = ids.split([5, 1, 6, 2, 10], dim=1)
    with applied(model, plan_for(model, 1, dict(input_ids=ids))) as run:
        expected = steps(model, DynamicCache(config=model.config), chunks)
        counts = run.stats
        run.reset()
        assert_close(steps(model, run.kv_cache(capacity=24), chunks), expected)
    assert run.stats == counts


def test_more_new_tokens_than_a_step_has_are_computed_whole():
    model = build("llama")
    chunks = tokens(60).split([10, 50], dim=1)
    with applied(model, plan_for(model, 1)) as run:
        expected = steps(model, DynamicCache(config=model.config), chunks)
        assert_close(steps(model, run.kv_cache(), chunks), expected)


def test_layers_and_heads_that_the_plan_leaves_exact_are_exact():
    model = build("llama")
    plan = plan_for(model, 1)
    plan = plan.replace(thresholds=[[None] * 4, [0.4, None, 0.4, 0.4], [0.4] * 4])
    batch = batch_of([9])
    assert_generates_alike(model, plan, batch)
    with applied(model, plan, select="auto") as run:
        model.generate(**batch, max_new_tokens=4, past_key_values=run.kv_cache())
    assert run.stats[0, 0].paths == {"exact": 4} and run.stats[1, 1].paths == {"exact": 4}
    assert run.stats[1, 0].paths == {"exact_too_short": 4}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    model = build("llama")
    plan = plan_for(model, 1)
    model = model.to(dtype)
    chunks = tokens(12).split([10, 1, 1], dim=1)
    with applied(model, plan, precision="float32") as run:
        expected, counts = steps(model, DynamicCache(config=model.config), chunks), run.stats
        run.reset()
        cache = run.kv_cache()
        got = steps(model, cache, chunks)
    assert got[-1].dtype == dtype
    # Outputs of attention round to 16 bits, alike but for ties; logits are up to 10.
    eps = torch.finfo(dtype).eps
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.allclose(ours.double(), theirs.double(), atol=max(20 * eps, 2e-4))
    assert [run.stats[0, h] for h in range(4)] == [counts[0, h] for h in range(4)]
    assert run.precision == "float32"
    if dtype != torch.float64:
        assert cache.layers[0].kv.nbytes < _bytes_of_float32(plan)


def _bytes_of_float32(plan):
    kv = ea.KvCache(heads=4, kv_heads=2, d=8, plan=plan)
    kv.append(torch.zeros(1, 2, 12, 8), torch.zeros(1, 2, 12, 8))
    return kv.nbytes


def test_crop_reset_repeat_and_select():
    model = build("llama")
    plan = plan_for(model, 1)
    ids = tokens(9, batch=2)
    last = tokens(1, batch=2, seed=5)
    with applied(model, plan) as run:
        (_, expected) = steps(model, DynamicCache(config=model.config), [ids, last])
        cache = run.kv_cache()
        steps(model, cache, [ids, last, last])
        cache.crop(-2)
        assert_close(steps(model, cache, [last]), [expected])
        cache.crop(9)  # as older versions of transformers say it
        assert_close(steps(model, cache, [last]), [expected])
        cache.crop(-1)
        cache.batch_repeat_interleave(2)
        rows = torch.tensor([0, 0, 1, 1])
        assert_close(steps(model, cache, [last[rows]]), [expected[rows]])
        cache.crop(-1)
        cache.batch_select_indices(torch.tensor([False, False, True, False]))
        assert_close(steps(model, cache, [last[1:]]), [expected[1:]])
        cache.crop(-10)
        assert cache.get_seq_length() == 0
        cache.reset()  # of another batch from here on
        assert not cache.is_initialized
        assert_close(steps(model, cache, [ids, last])[1:], [expected])


def test_masks_may_be_floats():
    model = build("llama")
    ids = tokens(9, batch=2)
    shown = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    shown[1, ..., :4] = False
    floats = torch.zeros(2, 1, 1, 9).masked_fill(~shown, torch.finfo(torch.float32).min)
    with applied(model, plan_for(model, 1)) as run, torch.inference_mode():
        results = []
        for mask in (shown, floats):
            for cache in (run.kv_cache(), DynamicCache(config=model.config)):
                model(input_ids=ids[:, :8], past_key_values=cache)
                out = model(input_ids=ids[:, 8:], past_key_values=cache, attention_mask=mask)
                results.append(out.logits)
    assert_close(results[1:], results[:1] * 3)


@pytest.mark.parametrize("masked", [None, torch.bool, torch.float32])
def test_position_biases_are_added_to_scaled_scores(masked):
    from elsa_attention.hf.backend import attend

    model = build("llama")
    module = model.model.layers[0].self_attn
    q, k, v = (torch.randn(2, heads, 9, 8) for heads in (4, 2, 2))
    words = dict(position_bias=torch.randn(1, 4, 1, 9), scaling=0.5)
    mask = None
    if masked is not None:
        mask = torch.arange(9)[None, None, None] >= torch.tensor([0, 4])[:, None, None, None]
    if masked == torch.float32:
        mask = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    with applied(model, plan_for(model, 1)) as run:
        cache = run.kv_cache()
        cache.update(k[:, :, :8], v[:, :, :8], 0)
        keys, values = cache.update(k[:, :, 8:], v[:, :, 8:], 0)
        expected = attend(module, q[:, :, 8:], k, v, mask, **words)[0]
        got = attend(module, q[:, :, 8:], keys, values, mask, **words)[0]
    assert torch.allclose(got, expected, atol=1e-5)


def test_counts_are_left_out_where_they_are_not_wanted():
    model = build("llama")
    with applied(model, plan_for(model, 1), collect=False) as run:
        steps(model, run.kv_cache(), tokens(9).split([8, 1], dim=1))
    assert run.stats == {} and run.target is None


def test_nothing_else_can_read_the_keys():
    model = build("llama")
    plan = plan_for(model, 1)
    prompt, step = tokens(9).split([8, 1], dim=1)
    with applied(model, plan) as run:
        cache = run.kv_cache()
        steps(model, cache, [prompt])
        key = torch.zeros(1, 2, 1, 8)
        rows, _ = cache.update(key, key, 0)
        cache.layers[0].crop(-1)
    assert rows.shape == (1, 2, 9, 8) and rows.dtype == torch.float32 and "9" in repr(rows)
    only = 'ModelCache: expected only attn_implementation="elsa" to read cached keys and values'
    with pytest.raises(RuntimeError, match=only):
        steps(model, cache, [step])  # by sdpa, as the run is over
    cache.layers[0].crop(-1)
    with ea.applied(model, plan), pytest.raises(RuntimeError, match=only):
        steps(model, cache, [step])  # by the engine reference
    for read in (
        lambda: rows + 1,
        lambda: rows[:, :, :2],
        lambda: rows.clone(),
        lambda: copy.deepcopy(rows),
        lambda: torch.from_dlpack(rows),
        lambda: ea.attention(key, rows, rows, engine="cpu", enable_gqa=True),
        lambda: cache.layers[0].keys,
        lambda: cache.layers[0].values,
    ):
        with pytest.raises(RuntimeError, match=only):
            read()
    with pytest.raises(TypeError, match="ModelCache: expected one use at a time, got a copy"):
        copy.deepcopy(cache)


def test_what_does_not_fit_is_refused():
    model = build("llama")
    plan = plan_for(model, 1)
    prompt, step = tokens(9).split([8, 1], dim=1)
    with applied(model, plan) as run:
        cache = run.kv_cache()
        steps(model, cache, [prompt])
        with pytest.raises(RuntimeError, match="expected inference only"):
            model(input_ids=step, past_key_values=cache)
        with pytest.raises(ValueError, match="crop: expected at most 8 tokens .*, got 9"):
            cache.crop(-9)
        with pytest.raises(ValueError, match="key: expected shape"):
            steps(model, cache, [step.expand(2, -1)])
        key = torch.zeros(1, 2, 1, 8)
        with pytest.raises(ValueError, match="capacity: expected 0 or more, got -1"):
            run.kv_cache(capacity=-1)
    from elsa_attention.hf.backend import attend

    query = torch.zeros(1, 4, 1, 8)
    for made_by, used_by, layer, what in [
        (plan, plan.replace(remainder="mean"), 0, "past_key_values of the plan that is applied"),
        (plan, None, 0, "past_key_values of the plan that is applied"),
        (plan, plan, 1, "elsa: expected keys of layer 1 itself, got those of layer 0"),
    ]:
        with applied(model, made_by) as run:
            cache = run.kv_cache()
        for _ in range(2):
            rows = cache.update(key, key, 0)
        module = model.model.layers[layer].self_attn
        with applied(model, used_by), pytest.raises(ValueError, match=what):
            attend(module, query, *rows, None)
        if used_by is None:
            with pytest.raises(ValueError, match=what):
                attend(module, query, *rows, None)  # no plan is applied at all
    cache.update(key, key, 0)
    with applied(model, plan), pytest.raises(ValueError, match="the 3 keys now cached, got 2"):
        attend(model.model.layers[0].self_attn, query, *rows, None)
    for engine in ("reference", "fixed"):
        with (
            ea.applied(model, None, engine=engine) as run,
            pytest.raises(ValueError, match=f"kv_cache: expected engine cpu, got {engine}"),
        ):
            run.kv_cache()


def test_models_without_such_a_cache_are_refused():
    model = windowed("mistral")
    plan = plan_for(model, 1, dict(input_ids=tokens(9)))
    with applied(model, plan.replace(always_keep_first=1)) as run:
        with pytest.raises(ValueError, match="always_keep_first: expected 0 in a model with slid"):
            run.kv_cache()
    with applied(model, plan) as run:
        cache = run.kv_cache()
        steps(model, cache, tokens(9).split([8, 1], dim=1))
        with pytest.raises(ValueError, match="crop: expected at most 1 tokens .*, got 2"):
            cache.crop(-2)
        cache.crop(-1)
        assert cache.get_seq_length() == 8
    config = copy.deepcopy(model.config)
    config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    model.config = config
    with applied(model, None) as run:
        with pytest.raises(ValueError, match="got a LinearAttentionLayer in layer 1"):
            run.kv_cache()
