"""attn_implementation="elsa" on small random models of every family it is meant for."""

import copy
import threading

import numpy as np
import pytest

import elsa_attention as ea

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40)
TEXT = dict(vocab_size=50, max_position_embeddings=64, pad_token_id=0)
ENCODERS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES, **TEXT)),
    "albert": lambda: transformers.AlbertModel(
        transformers.AlbertConfig(**SIZES, **TEXT, embedding_size=16)
    ),
    "roberta": lambda: transformers.RobertaModel(
        transformers.RobertaConfig(**SIZES, **{**TEXT, "pad_token_id": 1})
    ),
    "electra": lambda: transformers.ElectraModel(
        transformers.ElectraConfig(**SIZES, **TEXT, embedding_size=16)
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(dim=32, n_layers=3, n_heads=4, hidden_dim=40, **TEXT)
    ),
}
DECODERS = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=32, n_layer=3, n_head=4, vocab_size=50, n_positions=64, bos_token_id=1,
            eos_token_id=49, pad_token_id=0,
        )
    ),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, **TEXT, num_key_value_heads=2, eos_token_id=49)
    ),
}  # fmt: skip


def build(name, seed=0):
    torch.manual_seed(seed)
    model = {**ENCODERS, **DECODERS}[name]().eval()
    for parameter in model.parameters():  # larger weights, so that attention matters
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(lengths, width=None, side="right", seed=0):
    """Token ids and mask of random sequences padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        at = slice(0, length) if side == "right" else slice(width - length, width)
        ids[row, at] = torch.randint(4, 48, (length,), generator=generator)
        mask[row, at] = 1
    return dict(input_ids=ids, attention_mask=mask)


def hidden(model, batch):
    with torch.inference_mode():
        return model(**batch, output_hidden_states=True).hidden_states[-1]


def plan_for(model, p=1.0, batch=None, **options):
    return ea.calibrate(model, [batch or batch_of([11, 7])], p=p, **options)


@pytest.fixture(scope="module", autouse=True)
def registered():
    ea.register()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are tiny
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ENCODERS)
def test_without_a_plan_equals_sdpa_on_real_tokens_of_padded_batches(name, side):
    model = build(name)
    batch = batch_of([9, 5, 12], side=side)
    model.set_attn_implementation("sdpa")
    expected = hidden(model, batch)
    model.set_attn_implementation("elsa")
    real = batch["attention_mask"].bool()
    assert torch.allclose(hidden(model, batch)[real], expected[real], atol=2e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_masks_are_not_dropped(name):
    model = build(name)
    model.set_attn_implementation("elsa")
    batch = batch_of([9, 5])
    other = copy.deepcopy(batch)
    other["input_ids"][1, 5:] = 33  # padding may hold anything
    assert torch.equal(hidden(model, batch)[1, :5], hidden(model, other)[1, :5])
    other["attention_mask"][:] = 1
    assert not torch.allclose(hidden(model, batch)[1, :5], hidden(model, other)[1, :5], atol=1e-3)


@pytest.mark.parametrize("name", list(ENCODERS) + list(DECODERS))
def test_a_plan_of_p_0_equals_sdpa(name):
    model = build(name)
    batch = batch_of([9, 5])
    expected = hidden(model, batch)
    with plan_for(model, 0).applied(model) as run:
        got = hidden(model, batch)
    real = batch["attention_mask"].bool()
    assert torch.allclose(got[real], expected[real], atol=2e-5)
    assert run.total.kept_fraction == 1 and run.total.exact_queries == run.total.queries


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_changes_nothing_on_either_side(name):
    model = build(name)
    plan = plan_for(model, 2, remainder="mean")
    alone = batch_of([8])
    with plan.applied(model, measure_mass=True) as run:
        expected = hidden(model, alone)
        stats = run.stats
        for side in ("right", "left"):
            run.reset()
            if side == "left" and name != "distilbert":
                padded = batch_of([8], width=13, side=side)
                # absolute positions: the same for the real tokens as without padding
                start = 2 if name == "roberta" else 0
                positions = torch.arange(13)[None] - 5
                padded["position_ids"] = positions.clamp(min=0) + start
            elif side == "left":
                continue
            else:
                padded = batch_of([8], width=13)
            got = hidden(model, padded)[padded["attention_mask"].bool()]
            assert torch.allclose(got, expected[0], atol=1e-5)
            assert run.stats.keys() == stats.keys()
            for at, head in run.stats.items():
                assert (head.queries, head.pairs, head.kept) == (
                    stats[at].queries, stats[at].pairs, stats[at].kept,
                )  # fmt: skip
                assert head.mass_kept == pytest.approx(stats[at].mass_kept, abs=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_counts_cover_every_layer_and_head_once_per_pass(name):
    model = build(name)
    batch = batch_of([9, 5])
    with plan_for(model).applied(model) as run:
        hidden(model, batch)
        once = run.stats
        hidden(model, batch)
    assert list(once) == [(layer, head) for layer in range(3) for head in range(4)]
    assert all(s.queries == 14 and s.pairs == 81 + 25 for s in once.values())
    assert all(run.stats[at] == s + s for at, s in once.items())
    assert 0 < run.total.kept_fraction < 1


def test_each_layer_uses_its_own_thresholds():
    for name in ("bert", "albert"):
        model = build(name)
        plan = plan_for(model, 2)
        thresholds = plan.thresholds
        thresholds[1] = [None] * 4
        with plan.replace(thresholds=thresholds).applied(model) as run:
            hidden(model, batch_of([9, 5]))
        for (layer, _), stats in run.stats.items():
            assert stats.exact_queries == (stats.queries if layer == 1 else 0)


def test_the_plan_computes_what_attention_computes():
    model = build("bert")
    plan = plan_for(model, 1, remainder="mean")
    seen = []
    batch = batch_of([9, 5])

    def see(layer, inputs):
        if layer == 0:
            seen.append([np.array(x) for x in (inputs.query, inputs.key, inputs.value)])

    from elsa_attention.hf import observed

    with observed(model, see):
        hidden(model, batch)
    expected, stats = ea.attention(*seen[0], plan=plan, lengths=[9, 5], return_stats=True)
    contexts = []
    hook = model.encoder.layer[0].attention.self.register_forward_hook(
        lambda module, args, output: contexts.append(output[0])
    )
    with plan.applied(model) as run:
        hidden(model, batch)
    hook.remove()
    got = contexts[0].reshape(2, 9, 4, 8).transpose(1, 2).numpy()
    assert np.array_equal(got, expected)
    assert [run.stats[0, head].kept for head in range(4)] == [s.kept for s in stats]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_generation_equals_sdpa_token_for_token(name, padded, cache):
    model = build(name)
    batch = batch_of([6, 9] if padded else [9, 9], side="left")
    options = dict(max_new_tokens=8, do_sample=False, cache_implementation=cache)
    if cache == "static":
        options["disable_compile"] = True
    model.set_attn_implementation("sdpa")
    expected = model.generate(**batch, **options)
    model.set_attn_implementation("elsa")
    assert torch.equal(model.generate(**batch, **options), expected)
    with plan_for(model, 0, batch=batch).applied(model):
        assert torch.equal(model.generate(**batch, **options), expected)


def test_a_decoder_with_a_plan_sees_no_future():
    model = build("llama")
    plan = plan_for(model, 1, remainder="mean")
    batch = batch_of([10])
    other = copy.deepcopy(batch)
    other["input_ids"][0, 6:] = 40
    with plan.applied(model) as run:
        assert torch.equal(hidden(model, batch)[:, :6], hidden(model, other)[:, :6])
    assert run.stats[0, 0].pairs == 2 * 55 and run.total.kept_fraction < 1


def test_left_padded_decoder_counts_real_tokens_only():
    model = build("gpt2")
    batch = batch_of([6, 9], side="left")
    with plan_for(model, 1).applied(model) as run:
        hidden(model, batch)
    assert run.stats[0, 0].queries == 15
    assert run.stats[0, 0].pairs == 21 + 45


def test_the_context_restores_also_after_an_exception():
    model = build("albert")
    plan = plan_for(model)
    assert model.config._attn_implementation == "sdpa"
    batch = batch_of([9, 5])
    expected = hidden(model, batch)
    with pytest.raises(KeyError), plan.applied(model):
        assert model.config._attn_implementation == "elsa"
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(hidden(model, batch), expected)
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_contexts_nest_and_the_inner_plan_counts():
    model = build("bert")
    sparse, exact = plan_for(model, 2), plan_for(model, 0)
    with sparse.applied(model) as outer:
        with exact.applied(model) as inner:
            hidden(model, batch_of([9]))
        assert not outer.stats and inner.total.kept_fraction == 1
        assert model.config._attn_implementation == "elsa"
        hidden(model, batch_of([9]))
        assert outer.total.kept_fraction < 1
    assert model.config._attn_implementation == "sdpa"


def test_two_models_with_two_plans_run_in_two_threads():
    models = [build("albert", seed) for seed in (1, 2)]
    plans = [plan_for(models[0], 1), plan_for(models[1], 4, remainder="mean")]
    batch = batch_of([12, 7])
    expected = []
    for model, plan in zip(models, plans, strict=True):
        with plan.applied(model):
            expected.append(hidden(model, batch))
    results = [[], []]

    def work(i):
        for _ in range(5):
            results[i].append(hidden(models[i], batch))

    with plans[0].applied(models[0]), plans[1].applied(models[1]):
        threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1, 0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in (0, 1):
        assert len(results[i]) == 10
        assert all(torch.equal(result, expected[i]) for result in results[i])


def test_models_that_share_a_configuration_leave_each_other_alone():
    first = build("bert")
    second = transformers.BertModel(first.config).eval()
    second.load_state_dict(first.state_dict())
    plan = plan_for(first, 2)
    batch = batch_of([9])
    with plan.applied(second) as run:
        with plan.applied(first):
            pass
        hidden(second, batch)
        assert run.total.kept_fraction < 1
    assert first.config._attn_implementation == "sdpa"


def test_the_encoder_inside_a_model_can_be_called_alone():
    torch.manual_seed(0)
    config = transformers.AlbertConfig(**SIZES, **TEXT, embedding_size=16)
    model = transformers.AlbertForMaskedLM(config).eval()
    with plan_for(model).applied(model) as run:
        for _ in range(2):
            model.albert(**batch_of([9]))
    assert len(run.stats) == 12 and run.stats[0, 0].queries == 18


def test_apply_lasts_until_close():
    model = build("bert")
    run = ea.apply(model, plan_for(model, 2), threads=1)
    hidden(model, batch_of([9]))
    run.close()
    run.close()
    assert run.total.kept_fraction < 1
    assert model.config._attn_implementation == "sdpa"


def test_results_do_not_depend_on_threads():
    model = build("bert")
    plan = plan_for(model, 1)
    outputs = []
    for threads in (1, 3):
        with plan.applied(model, threads=threads):
            outputs.append(hidden(model, batch_of([9, 5])))
    assert torch.equal(*outputs)


def test_random_keys_keep_as_many_and_change_the_output():
    model = build("bert")
    plan = plan_for(model, 2)
    batch = batch_of([12])
    counts, outputs = [], []
    for seed in (None, 7):
        with plan.applied(model, random_keys_seed=seed) as run:
            outputs.append(hidden(model, batch))
            counts.append(run.stats[0, 0].kept)  # later layers see other inputs
    assert counts[0] == counts[1]
    assert not torch.allclose(*outputs, atol=1e-3)


def test_half_precision_models_run():
    model = build("bert").to(torch.bfloat16)
    batch = batch_of([9, 5])
    expected = hidden(model, batch)
    with plan_for(model, 0).applied(model):
        got = hidden(model, batch)
    assert got.dtype == torch.bfloat16
    real = batch["attention_mask"].bool()
    assert torch.allclose(got[real].float(), expected[real].float(), atol=0.1)


def test_a_four_dimensional_float_mask_masks():
    model = build("bert")
    batch = batch_of([9, 5])
    model.set_attn_implementation("elsa")
    expected = hidden(model, batch)
    real = batch["attention_mask"].bool()
    low = torch.finfo(torch.float32).min
    batch["attention_mask"] = torch.where(real[:, None, None, :], 0.0, low).expand(-1, 1, 9, -1)
    assert torch.allclose(hidden(model, batch)[real], expected[real], atol=1e-5)


def test_position_biases_are_added():
    config = transformers.T5Config(
        d_model=32, d_kv=8, num_layers=2, num_heads=4, d_ff=40, vocab_size=50
    )
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(config).eval()
    batch = batch_of([9, 5])
    model.set_attn_implementation("sdpa")
    expected = hidden(model, batch)
    model.set_attn_implementation("elsa")
    real = batch["attention_mask"].bool()
    assert torch.allclose(hidden(model, batch)[real], expected[real], atol=1e-4)


OTHERS = {
    "mistral": lambda: transformers.MistralModel(
        transformers.MistralConfig(**SIZES, **TEXT, num_key_value_heads=2, sliding_window=4)
    ),
    "modernbert": lambda: transformers.ModernBertModel(
        transformers.ModernBertConfig(
            **SIZES, **TEXT, local_attention=4, bos_token_id=1, eos_token_id=2, cls_token_id=1,
            sep_token_id=2,
        )
    ),
    "vit": lambda: transformers.ViTModel(
        transformers.ViTConfig(**SIZES, image_size=16, patch_size=4)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_windows_and_images_go_the_same_way(name):
    torch.manual_seed(0)
    model = OTHERS[name]().eval()
    batch = {"pixel_values": torch.randn(2, 3, 16, 16)} if name == "vit" else batch_of([12, 7])
    real = batch["attention_mask"].bool() if "attention_mask" in batch else slice(None)
    expected = hidden(model, batch)
    exact, sparse = (ea.calibrate(model, [batch], p=p) for p in (0, 1))
    with exact.applied(model):
        assert torch.allclose(hidden(model, batch)[real], expected[real], atol=2e-5)
    with sparse.applied(model) as run:
        hidden(model, batch)
    assert 0 < run.total.kept_fraction < 1


def test_models_that_ignore_the_implementation_are_refused():
    text = transformers.MPNetModel(transformers.MPNetConfig(**SIZES, **TEXT))
    windows = transformers.LongformerConfig(**SIZES, **TEXT, attention_window=4)
    plan = plan_for(build("bert"))
    for model in (text, transformers.LongformerModel(windows)):
        name = type(model).__name__
        with pytest.raises(ValueError, match=f"expected attention through .* got {name}"):
            ea.apply(model.eval(), plan)
        with pytest.raises(ValueError, match=name):
            ea.calibrate(model, [batch_of([5])], p=1)


def test_cross_attention_models_are_refused():
    config = transformers.BartConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=50, encoder_attention_heads=4,
        decoder_attention_heads=4,
    )  # fmt: skip
    model = transformers.BartModel(config)
    with pytest.raises(ValueError, match="expected one self-attention per layer, got BartModel"):
        ea.apply(model, plan_for(build("bert")))


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="expected a transformers model, got Linear"):
        ea.apply(torch.nn.Linear(2, 2), plan_for(build("bert")))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (dict(num_hidden_layers=2), "layers: expected 2"),
        (dict(num_attention_heads=2), "heads: expected 2"),
        (dict(hidden_size=64), "hash.d: expected 16 or more as in the model, got 8"),
    ],
)
def test_a_plan_of_another_shape_is_refused_before_running(change, what):
    plan = plan_for(build("bert"))
    other = transformers.BertModel(transformers.BertConfig(**{**SIZES, **change}, **TEXT))
    with pytest.raises(ValueError, match=what):
        ea.apply(other, plan)
    assert other.config._attn_implementation == "sdpa"


def test_a_plan_of_another_model_is_refused():
    model = build("bert")
    plan = plan_for(model, model_name="somebody")
    model.name_or_path = "folder/bert-tiny"
    with pytest.raises(ValueError, match="expected one of model 'bert-tiny', got one of 'someb"):
        ea.apply(model, plan)
    ea.apply(model, plan, model_name="somebody").close()
    assert plan_for(model).model == "bert-tiny"


def test_centring_is_refused_for_decoders():
    model = build("gpt2")
    plan = plan_for(build("bert"), centring="on")
    with pytest.raises(ValueError, match="centring: expected off for a causal model"):
        ea.apply(model, plan)


def test_dropout_is_refused():
    model = build("bert")
    plan = plan_for(model)
    model.train()
    with plan.applied(model), pytest.raises(ValueError, match="expected no attention dropout"):
        model(**batch_of([5]))
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        plan_for(model)


def test_backward_is_refused():
    model = build("bert")
    with plan_for(model).applied(model):
        output = model(**batch_of([5])).last_hidden_state
        with pytest.raises(RuntimeError, match=r"expected inference only, got backward\(\)"):
            output.sum().backward()


def test_attention_weights_are_refused():
    model = build("bert")
    with plan_for(model).applied(model), pytest.raises(ValueError, match="output_attentions"):
        model(**batch_of([5]), output_attentions=True)


def test_an_implementation_switched_away_is_noticed():
    model = build("bert")
    with plan_for(model).applied(model):
        model.set_attn_implementation("eager")
        with pytest.raises(RuntimeError, match="got no call"):
            model(**batch_of([5]))


def test_another_name_can_be_registered_but_not_a_taken_one():
    ea.register("elsa")
    ea.register("approximate")
    model = build("bert")
    model.set_attn_implementation("approximate")
    hidden(model, batch_of([5]))
    for name in ("sdpa", "eager", "my_sdpa"):
        with pytest.raises(ValueError, match="expected a name of its own"):
            ea.register(name)


def test_models_load_with_the_name(tmp_path):
    build("bert").save_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="elsa")
    other = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    batch = batch_of([9])
    assert torch.allclose(hidden(model.eval(), batch), hidden(other.eval(), batch), atol=2e-5)


def test_calibration_ignores_padding():
    model = build("bert")
    plain = plan_for(model, 1, batch=batch_of([8]))
    padded = plan_for(model, 1, batch=batch_of([8], width=13))
    for a, b in zip(plain.thresholds, padded.thresholds, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert plain.calibration[0][0]["queries"] == padded.calibration[0][0]["queries"] == 8


def test_calibration_does_not_change_the_model():
    model = build("albert")
    batch = batch_of([8, 5])
    expected = hidden(model, batch)
    plan_for(model)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(hidden(model, batch), expected)
