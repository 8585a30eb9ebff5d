"""What holds on a GPU, as far as it can be seen without one; and with one where there is one."""

import pytest
import torch

from recbole_session.model import encoder, losses, session_bert4rec
from recbole_session.model import pieces as pieces_module
from recbole_session.model.dropout import Dropout
from recbole_session.model.encoder import finish_layer
from recbole_session.model.pieces import plan_pieces
from recbole_session.model.session_bert4rec import SessionBERT4Rec
from tests.conftest import BuildConfig
from tests.model.test_session_bert4rec import ALL_FEATURES, build_model, random_batch

LENGTHS = [[1], [8, 1, 3, 5], list(range(1, 9)) * 20]


@pytest.mark.parametrize("features", ALL_FEATURES)
@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "gbce"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_step_looks_at_the_device_once(
    features: list[str], loss: str, lengths: list[int], build_config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device tensors have no values: whatever else looks at one, or meets the CPU's, raises."""
    monkeypatch.setattr(losses, "PLAIN_LOGITS", -1)
    keys = {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2, "num_train_negatives": 5}
    model = build_model(build_config, session_features=features, item_loss=loss, mask_ratio=0.5, **keys).train()
    batch = random_batch(lengths, 8)
    hidden = model.draw_task(batch)
    monkeypatch.setattr(pieces_module, "ROWS_AT_ONCE_ON_CPU", 64)
    pieces = plan_pieces((batch["item_seq"] != 0).sum(1), hidden["chosen"].sum(1))
    there = [piece._replace(rows=piece.rows.to("meta")) for piece in pieces]
    looks = []
    monkeypatch.setattr(session_bert4rec, "plan_pieces", lambda *numbers: looks.append(numbers) or there)
    model.to("meta").calculate_loss({name: values.to("meta") for name, values in batch.items()}).backward()
    assert len(looks) == 1
    assert all(number.device.type == "meta" for number in looks[0])
    assert model.output.weight.grad is not None
    assert model.output.weight.grad.device.type == "meta"


def results(model: SessionBERT4Rec, batch: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """Loss, scores and gradients, computed on ``device``."""
    model.to(device).zero_grad()
    batch = {name: values.to(device) for name, values in batch.items()}
    loss = model.calculate_loss(batch)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    found |= {"loss": loss.detach(), "scores": model.full_sort_predict(batch).detach()}
    return {name: values.to("cpu", torch.float32, copy=True) for name, values in found.items()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("features", ALL_FEATURES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_gpu_computes_what_the_cpu_does(
    features: list[str], lengths: list[int], half: bool, build_config: BuildConfig
) -> None:
    model = build_model(build_config, session_features=features, mask_ratio=0.5)
    batch = random_batch(lengths, 8)
    batch.update(model.draw_task(batch))
    expected = results(model, batch, "cpu")
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
        found = results(model, batch, "cuda")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # A frequency's gradient is times 1e9 seconds of what was rounded.
        noise = (0.05 if half else 1e-5) * (1e9 if name.endswith("frequencies") else 1.0)
        torch.testing.assert_close(found[name], values, rtol=0.05 if half else 1e-3, atol=noise)


@pytest.mark.parametrize("features", [[], ["ST", "SSE", "TSA"]])
def test_compiled_layers_compute_the_same(
    features: list[str], build_config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced by torch.compile, with shapes that change; the code it would generate for them is torch's own matter."""
    torch._dynamo.reset()
    traced = torch.compile(finish_layer, dynamic=True, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(encoder, "compiled_finish", lambda: traced)
    keys = {"session_features": features, "mask_ratio": 0.5}
    eager, compiled = build_model(build_config, **keys), build_model(build_config, torch_compile=True, **keys)
    counters = torch._dynamo.utils.counters["stats"]
    counters.clear()
    for lengths in ([8, 3, 5], [8, 2, 2, 7, 6], [7, 4], [3] * 70):
        batch = random_batch(lengths, 8)
        batch.update(eager.draw_task(batch))
        for model in (eager, compiled):
            model.zero_grad()
            model.calculate_loss(batch).backward()
        for ours, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            torch.testing.assert_close(compiled.full_sort_predict(batch), eager.full_sort_predict(batch))
    assert counters["unique_graphs"] == 2  # one with gradients and one without, whatever the shapes


def test_compiled_dropout_is_torchs() -> None:
    """numpy's random bits would break the graph: a dropout that is compiled whole has none."""
    torch.manual_seed(0)
    drop = torch.compile(Dropout(0.25).train(), backend="eager", fullgraph=True)
    kept = drop(torch.ones(20_000))
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 4 / 3]))
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
