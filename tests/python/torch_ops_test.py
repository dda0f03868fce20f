"""torch.ops.elsa.attention: what torch demands of an operator, and that it stays in a graph."""

import pytest

import elsa_attention as ea

torch = pytest.importorskip("torch")
from attention_test import learned, qkv  # noqa: E402
from elsa_attention import torch_ops  # noqa: E402

op = torch.ops.elsa.attention


@pytest.fixture(scope="module")
def case():
    q, k, v = (torch.from_numpy(x) for x in qkv(n=24))
    plan = learned(*(x.numpy() for x in (q, k, v)))
    number = torch_ops.register_plan(plan)
    yield q, k, v, plan, number
    torch_ops.unregister_plan(number)


def test_equals_the_function(case):
    q, k, v, plan, number = case
    for options in ({}, {"is_causal": True}, {"scale": 0.3, "select": "always", "threads": 1}):
        want = ea.attention(q, k, v, plan=plan, engine="cpu", **options)
        assert torch.equal(op(q, k, v, plan=number, **options), want)
    assert torch.equal(op(q, k, v), ea.attention(q, k, v, engine="cpu"))
    lengths = torch.tensor([20, 7])
    want = ea.attention(q, k, v, lengths=lengths, engine="cpu")
    assert torch.equal(op(q, k, v, lengths=lengths), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_accepts_it_as_an_operator(case, dtype):
    q, k, v, _, number = case
    q, k, v = (x.to(dtype) for x in (q, k, v))
    mask = torch.rand(q.shape[2], k.shape[2]) < 0.8
    by_token = q.transpose(1, 2).contiguous().transpose(1, 2)  # as models lay it out
    for tensors, options in [
        ((q, k, v), {}),
        ((by_token, k, v[..., :5], mask), {"plan": number}),
        ((q[:, :2], k[:, :1], v[:, :1]), {"is_causal": True, "enable_gqa": True}),
    ]:
        torch.library.opcheck(op, tensors, options)


def attention_block(x, plan):
    heads = x.unflatten(-1, (3, -1)).transpose(1, 2)
    return torch.relu(torch.ops.elsa.attention(heads, heads, heads, plan=plan)).sum(-1)


def test_compile_keeps_it_in_one_graph(case):
    q, *_, number = case
    x = q.transpose(1, 2).flatten(2)
    torch.compiler.reset()
    compiled = torch.compile(attention_block, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.inference_mode():
        for rows in (x, x[:, :7]):  # another length runs the same graph
            assert torch.allclose(compiled(rows, number), attention_block(rows, number))


@pytest.mark.slow  # waits for a compiler
def test_inductor_keeps_it_in_one_graph(case):
    q, *_, number = case
    x = q.transpose(1, 2).flatten(2)
    torch.compiler.reset()
    compiled = torch.compile(attention_block, fullgraph=True)
    with torch.inference_mode():
        assert torch.allclose(compiled(x, number), attention_block(x, number), atol=1e-6)


def test_backward_says_no(case):
    q, k, v, *_ = case
    out = op(q.clone().requires_grad_(), k, v)
    with pytest.raises(RuntimeError, match=r"expected inference only, got backward\(\)"):
        out.sum().backward()


def test_numbers_name_plans_until_they_are_unregistered(case):
    q, k, v, plan, number = case
    other = torch_ops.register_plan(plan)
    assert other != number
    torch_ops.unregister_plan(other)
    for call in (lambda: op(q, k, v, plan=other), lambda: torch_ops.unregister_plan(other)):
        with pytest.raises(ValueError, match=f"a number that register_plan gave, got {other}"):
            call()
    with pytest.raises(TypeError, match="plan: expected an elsa_attention.Plan, got str"):
        torch_ops.register_plan("plan.json")


def test_bad_input_raises_the_functions_errors(case):
    q, k, v, *_ = case
    with pytest.raises(ValueError, match="key: expected 3 heads as in query, got 1"):
        op(q, k[:, :1], v[:, :1])
    with pytest.raises(ValueError, match="precision: expected auto, float32, 16bit or int8"):
        op(q, k, v, precision="half")
