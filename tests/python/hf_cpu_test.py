"""Hugging Face models on the CPU engine: what the reference engine computes, on their tensors."""

import json

import pytest

import elsa_attention as ea
import tiny_models

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from elsa_attention.hf.masks import visible  # noqa: E402
from hf_test import DECODERS, ENCODERS, OTHERS, batch_of, build, hidden, plan_for  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", list(ENCODERS) + list(DECODERS))
def test_equals_the_reference_engine_padded_on_either_side(name, side):
    model = build(name)
    batch = batch_of([9, 5, 12], side=side)
    plan = plan_for(model, 1, remainder="mean")
    with plan.applied(model) as run:
        expected, counts = hidden(model, batch), run.stats
    with plan.applied(model, engine="cpu", select="always") as run:
        got = hidden(model, batch)
    real = batch["attention_mask"].bool()
    assert torch.allclose(got[real], expected[real], atol=2e-5)
    assert run.stats == counts
    assert run.total.paths == {"selected": 3 * 3 * 4}  # sequences, layers, heads
    assert run.precision == "float32" and run.target in [t.name for t in ea.cpu_targets()]
    run.reset()
    assert run.total == ea.HeadStats()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_generation_with_an_exact_plan_equals_sdpa_token_for_token(name, padded, cache):
    model = build(name)
    batch = batch_of([6, 9] if padded else [9, 9], side="left")
    options = dict(max_new_tokens=8, do_sample=False, cache_implementation=cache)
    if cache == "static":
        options["disable_compile"] = True
    model.set_attn_implementation("sdpa")
    expected = model.generate(**batch, **options)
    with plan_for(model, 0, batch=batch).applied(model, engine="cpu") as run:
        assert torch.equal(model.generate(**batch, **options), expected)
    assert run.total.kept_fraction == 1 and set(run.total.paths) == {"exact"}


@pytest.mark.parametrize("name", DECODERS)
def test_generation_with_a_plan_equals_the_reference_engine_token_for_token(name):
    model = build(name)
    batch = batch_of([6, 9], side="left")
    plan = plan_for(model, 1, batch=batch, remainder="mean")
    options = dict(max_new_tokens=8, do_sample=False)
    with plan.applied(model) as run:
        expected, counts = model.generate(**batch, **options), run.stats
    with plan.applied(model, engine="cpu", select="always") as run:
        assert torch.equal(model.generate(**batch, **options), expected)
    assert run.stats == counts and run.total.kept_fraction < 1


@pytest.mark.parametrize("name", OTHERS)
def test_windows_and_images_go_the_same_way(name):
    torch.manual_seed(0)
    model = OTHERS[name]().eval()
    if name == "vit":
        batch = dict(pixel_values=torch.rand(2, 3, 16, 16))
    else:
        batch = batch_of([9, 9], side="left")
    plan = plan_for(model, 1, batch)
    with plan.applied(model) as run:
        expected, counts = hidden(model, batch), run.stats
    with plan.applied(model, engine="cpu", select="always") as run:
        assert torch.allclose(hidden(model, batch), expected, atol=2e-5)
    assert run.stats == counts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_any_float_type_run(dtype):
    model = build("bert").to(dtype)
    batch = batch_of([9, 5])
    expected = hidden(model, batch)
    with plan_for(model, 0).applied(model, engine="cpu") as run:
        got = hidden(model, batch)
    assert got.dtype == dtype
    assert run.precision == ("float32" if dtype == torch.float64 else "16bit")
    real = batch["attention_mask"].bool()
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    assert torch.allclose(got[real].double(), expected[real].double(), atol=tolerance)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_models_that_have_to_be_converted_count_the_same(name, side):
    model = build(name).double()
    batch = batch_of([9, 5], side=side)
    plan = plan_for(model, 1)
    with plan.applied(model) as run:
        hidden(model, batch)
        counts = run.stats
    with plan.applied(model, engine="cpu", select="always") as run:
        hidden(model, batch)
    assert run.stats == counts


def test_position_biases_are_added_to_bool_and_float_masks():
    config = transformers.T5Config(
        d_model=32, d_kv=8, num_layers=2, num_heads=4, d_ff=40, vocab_size=50
    )
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(config).eval()
    batch = batch_of([9, 5])
    real = batch["attention_mask"].bool()
    expected = hidden(model, batch)
    low = torch.finfo(torch.float32).min
    floats = torch.where(real[:, None, None, :], 0.0, low).expand(-1, 1, 9, -1)
    ea.register()
    model.set_attn_implementation("elsa")  # without a plan: exact, by the CPU engine
    for mask in (batch["attention_mask"], floats):
        got = hidden(model, {**batch, "attention_mask": mask})
        assert torch.allclose(got[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("d", [256, 264])
def test_exact_attention_has_no_largest_row(d):
    sizes = dict(hidden_size=2 * d, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(**sizes, intermediate_size=8, vocab_size=50)
    ).eval()
    batch = batch_of([7])
    expected = hidden(model, batch)
    ea.register()
    model.set_attn_implementation("elsa")
    assert torch.allclose(hidden(model, batch), expected, atol=1e-5)


def test_masks_become_lengths_and_causal_where_they_say_no_more():
    n = 6
    real = torch.arange(n) < torch.tensor([6, 4])[:, None]
    rows = real[:, None, None, :].expand(2, 1, n, n)
    triangle = torch.ones(n, n, dtype=torch.bool).tril()
    seen = visible(rows, 2)
    assert seen.mask is None and not seen.causal
    assert seen.query_lengths == seen.key_lengths == [6, 4] and seen.padded == 0
    seen = visible(rows & triangle, 2)
    assert seen.mask is None and seen.causal and seen.key_lengths == [6, 4]
    seen = visible(triangle[None, None], 2)
    assert seen.causal and seen.key_lengths == [6, 6]
    left = rows.flip(-1)
    seen = visible(left & triangle, 2)
    assert not seen.causal and seen.padded == 2 and not seen.mask[1, :, :2].any()
    windows = triangle & ~triangle.tril(-3)
    assert torch.equal(visible(windows[None, None], 2).mask, windows.expand(2, 1, n, n))
    step = rows[:, :, :1]
    assert visible(step, 2).mask is step  # a decoding step: nothing is known about padding
    floats = torch.zeros(2, 1, n, n)
    assert visible(floats, 2).mask is floats


def test_backward_and_other_options_are_refused():
    model = build("bert")
    plan = plan_for(model, 1)
    with plan.applied(model, engine="cpu"):
        out = model(**batch_of([5])).last_hidden_state
        with pytest.raises(RuntimeError, match=r"expected inference only, got backward\(\)"):
            out.sum().backward()
    for options, what in [
        (dict(engine="cpu", measure_mass=True), "measure_mass: expected engine reference, got cpu"),
        (dict(precision="int8"), "precision: expected engine cpu, got reference"),
    ]:
        with pytest.raises(ValueError, match=what):
            ea.apply(model, plan, **options)
    with pytest.raises(TypeError, match="precision: expected a word, got 8"):
        ea.apply(model, plan, engine="cpu", precision=8)


def test_evaluate_runs_on_the_cpu_engine(tmp_path, capsys):
    from elsa_attention.commands.evaluate import main

    folder = tiny_models.save(tmp_path / "toy-bert", "bert")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(tiny_models.WORDS[i : i + 9]) for i in range(8)) + "\n")
    argv = ["--model", str(folder), "--task", "fidelity", "--data", str(text), "--p", "1", "--json"]
    reports = {}
    for engine in ("reference", "cpu"):
        variants = ["--variant", "paper", "--variant", "mean-row"] if engine == "reference" else []
        assert main([*argv, *variants, "--engine", engine]) == 0
        reports[engine] = json.loads(capsys.readouterr().out)
    assert reports["cpu"]["engine"] == "cpu"
    for row, expected in zip(reports["cpu"]["rows"], reports["reference"]["rows"], strict=True):
        assert row["variant"] == expected["variant"] and row["mass_kept"] is None
        assert row["kept_fraction_by_head"] == expected["kept_fraction_by_head"]
        assert row["fidelity"] == pytest.approx(expected["fidelity"], abs=1e-5)
    assert main([*argv, "--engine", "cpu", "--precision", "int8"]) == 0
    assert main([*argv, "--engine", "cpu", "--variant", "random"]) == 2
    assert "--variant random: expected --engine reference, got cpu" in capsys.readouterr().err
    assert main([*argv, "--precision", "int8"]) == 2
    assert "--precision: expected it with --engine cpu, got reference" in capsys.readouterr().err
