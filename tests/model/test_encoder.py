import math

import pytest
import torch

from recbole_session.model.encoder import EncoderLayer, SelfAttention, TemporalEncoding, Times

NOW = 1_732_400_000
LAYER = {
    "hidden_size": 8,
    "inner_size": 16,
    "n_heads": 2,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "torch_compile": False,
    "gated_layers": False,
}


def test_temporal_encoding_is_the_papers_formula_to_the_second() -> None:
    encoding = TemporalEncoding(temporal_dim=4)
    assert encoding.frequencies.tolist() == pytest.approx([1, 1e-3, 1e-6, 1e-9])
    assert encoding.phases.tolist() == [0, 0, 0, 0]
    with torch.no_grad():
        encoding.phases += torch.tensor([0.0, 0.1, 0.2, 0.3])
    times = [NOW, NOW + 1, NOW + 86_400]
    encoded = encoding(torch.tensor([times]))
    frequencies, phases = encoding.frequencies.tolist(), encoding.phases.tolist()
    for place, time in enumerate(times):
        expected = [math.cos(frequency * time + phase) for frequency, phase in zip(frequencies, phases, strict=True)]
        assert encoded[0, place].tolist() == pytest.approx(expected, abs=1e-6)


def test_neighbouring_seconds_differ_although_float32_seconds_do_not() -> None:
    times = torch.tensor([[NOW, NOW + 1]])
    assert times.float()[0, 0] == times.float()[0, 1]
    encoded = TemporalEncoding(temporal_dim=4)(times).detach()
    assert abs(float(encoded[0, 0, 0] - encoded[0, 1, 0])) > 0.01


def spelled_out_attention(
    attention: SelfAttention, states: torch.Tensor, is_token: torch.Tensor, temporal: torch.Tensor | None
) -> torch.Tensor:
    """Equations (2) and (3) of the paper with Python loops over rows, heads, queries and keys."""
    n_rows, length, hidden_size = states.shape
    d_head = hidden_size // attention.n_heads
    query, key, value = attention.query(states), attention.key(states), attention.value(states)
    extra = attention.temporal(temporal) if attention.temporal is not None else torch.zeros(n_rows, length, 0)
    scale = math.sqrt(d_head + extra.shape[-1])
    context = torch.zeros_like(states)
    for row in range(n_rows):
        keys = [place for place in range(length) if is_token[row, place]]
        for head in range(attention.n_heads):
            part = slice(head * d_head, (head + 1) * d_head)
            for place in range(length):
                logits = [
                    (query[row, place, part] @ key[row, other, part] + extra[row, place] @ extra[row, other]) / scale
                    for other in keys
                ]
                weights = torch.stack(logits).softmax(0)
                context[row, place, part] = sum(
                    weight * value[row, other, part] for weight, other in zip(weights, keys, strict=True)
                )
    return attention.output(context)


def of_all(temporal: torch.Tensor | None) -> Times | None:
    return None if temporal is None else Times(temporal, temporal)


def key_bias(is_token: torch.Tensor) -> torch.Tensor:
    return torch.zeros(is_token.shape).masked_fill(~is_token, float("-inf"))[:, None]


@pytest.mark.parametrize("temporal_dim", [0, 3])
@pytest.mark.parametrize(("n_heads", "tokens"), [(1, [1]), (2, [4, 1, 3]), (4, [2, 4])])
def test_attention_equals_the_spelled_out_one(temporal_dim: int, n_heads: int, tokens: list[int]) -> None:
    torch.manual_seed(0)
    length = max(tokens)
    attention = SelfAttention(8, n_heads, dropout=0.0, temporal_dim=temporal_dim).eval()
    states = torch.randn(len(tokens), length, 8, requires_grad=True)
    temporal = torch.randn(len(tokens), length, temporal_dim) if temporal_dim else None
    is_token = torch.arange(length) >= length - torch.tensor(tokens)[:, None]

    fast = attention(states, key_bias(is_token), of_all(temporal))[is_token]
    slow = spelled_out_attention(attention, states, is_token, temporal)[is_token]
    torch.testing.assert_close(fast, slow)
    gradients = [
        torch.autograd.grad(out.square().sum(), [states, *attention.parameters()], retain_graph=True)
        for out in (fast, slow)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layer_is_pre_norm_with_tanh_gelu() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer({**LAYER, "hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5}, temporal_dim=0)
    layer.eval()
    states, bias = torch.randn(2, 3, 8), torch.zeros(2, 1, 3)

    def norm(values: torch.Tensor, module: torch.nn.LayerNorm) -> torch.Tensor:
        centred = values - values.mean(-1, keepdim=True)
        return centred / centred.square().mean(-1, keepdim=True).sqrt() * module.weight + module.bias

    def gelu(values: torch.Tensor) -> torch.Tensor:
        return 0.5 * values * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))

    attended = states + layer.attention(norm(states, layer.attention_norm), bias, None)
    first, _, _, second = layer.feed_forward
    expected = attended + second(gelu(first(norm(attended, layer.feed_forward_norm))))
    torch.testing.assert_close(layer(states, bias, None), expected)


@pytest.mark.parametrize("places", [[[4], [4], [4]], [[0, 4], [4, 4], [3, 2]]])
def test_asking_for_some_positions_gives_their_states(places: list[list[int]]) -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(LAYER, temporal_dim=3).eval()
    states, temporal = torch.randn(3, 5, 8), torch.randn(3, 5, 3)
    bias = key_bias(torch.arange(5) >= torch.tensor([[0], [4], [2]]))
    queries = torch.tensor(places)
    everywhere = layer(states, bias, of_all(temporal))
    expected = torch.stack([row[asked] for row, asked in zip(everywhere, queries, strict=True)])
    torch.testing.assert_close(layer(states, bias, of_all(temporal), queries), expected)


@pytest.mark.parametrize("temporal_dim", [0, 3])
def test_the_fused_attention_of_other_devices_is_the_same(temporal_dim: int) -> None:
    """What a GPU computes, made on the CPU by torch's reference of the fused kernel."""
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, dropout=0.0, temporal_dim=temporal_dim)
    states = torch.randn(3, 5, 8, requires_grad=True)
    temporal = torch.randn(3, 5, temporal_dim) if temporal_dim else None
    bias = key_bias(torch.arange(5) >= torch.tensor([[0], [4], [2]]))
    queries = torch.tensor([[0, 4], [4, 4], [3, 2]])
    projected = attention._project(states, of_all(temporal), queries)
    value = attention._heads(attention.value(states))
    fused, ours = attention._fused(*projected, bias, value), attention._weights(*projected, bias) @ value
    torch.testing.assert_close(fused, ours)
    gradients = [torch.autograd.grad(out.square().sum(), states, retain_graph=True)[0] for out in (fused, ours)]
    torch.testing.assert_close(*gradients)
