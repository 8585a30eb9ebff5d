"""What this machine can do, and how much of its work is useful: peak of matrix multiplication, count of FLOP.

    python benchmarks/machine.py

**Peak.** float32 products of several shapes with all threads; the best of them is the peak that the other
benchmarks relate to.

**Useful FLOP.** What a step must compute at least, from the numbers of real tokens, padding left out. For sequences of
``l`` tokens, hidden size ``d``, ``h`` heads of ``d_head = d / h``, inner size ``f``, temporal dimension ``d_T``:

    linear, per token and layer      2 (4 d^2 + 2 d f + d_T^2)       queries, keys, values, output; feed-forward; TSA
    attention, per sequence, layer   2 l^2 (d_head + d_T) h + 2 l^2 d_head h      logits and context
    output layer, per chosen item    2 d n_items                     nothing at other positions
    backward                         twice the forward

Evaluation is a forward pass that needs, in the last layer, keys and values of all tokens and the rest for the last
token alone, and scores for that token. Embeddings, normalisation, activations and softmax count nothing.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Product = tuple[int, int, int]

# (m, k, n) for [m, k] x [k, n]: squares, and the shapes of feed-forward and output layers of a large batch.
PRODUCTS: list[Product] = [
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (16384, 256, 1024),
    (16384, 1024, 256),
    (4096, 256, 4096),
]


@dataclass(frozen=True)
class Shape:
    """Sizes of a Transformer that FLOP depend on.

    ``head_parameters`` are weights applied at each position before the output layer (RecBole's BERT4Rec has d x d);
    ``causal``: each token attends to itself and to those before it only.
    """

    hidden_size: int
    inner_size: int
    n_layers: int
    n_heads: int
    temporal_dim: int
    n_items: int
    head_parameters: int = 0
    causal: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], n_items: int, **others: Any) -> "Shape":
        """Read the sizes from keys; RecBole's models have no ``session_features``, so no TSA."""
        temporal_dim = config["temporal_dim"] if "TSA" in (config["session_features"] or ()) else 0
        sizes = (config[key] for key in ("hidden_size", "inner_size", "n_layers", "n_heads"))
        return cls(*sizes, temporal_dim, n_items, **others)


def forward_flop(shape: Shape, lengths: Sequence[int], n_outputs: float) -> float:
    """FLOP of a forward pass over sequences of ``lengths`` tokens with ``n_outputs`` positions at the output layer."""
    d, d_t = shape.hidden_size, shape.temporal_dim
    tokens = sum(lengths)
    pairs = sum(length * (length + 1) / 2 if shape.causal else length**2 for length in lengths)
    linear = 2 * tokens * (4 * d**2 + 2 * d * shape.inner_size + d_t**2)
    attention = 2 * pairs * (2 * d + d_t * shape.n_heads)  # (d_head + d_T) h + d_head h = 2 d + d_T h
    output = 2 * n_outputs * (d * shape.n_items + shape.head_parameters)
    return shape.n_layers * (linear + attention) + output


def training_flop(shape: Shape, lengths: Sequence[int], n_outputs: float) -> float:
    """FLOP of forward and backward pass."""
    return 3 * forward_flop(shape, lengths, n_outputs)


def evaluation_flop(shape: Shape, lengths: Sequence[int]) -> float:
    """FLOP of the scores of all items for the last token of each sequence."""
    d, d_t = shape.hidden_size, shape.temporal_dim
    tokens, n = sum(lengths), len(lengths)
    pairs = sum(length * (length + 1) / 2 if shape.causal else length**2 for length in lengths)
    per_token = 2 * (4 * d**2 + 2 * d * shape.inner_size + d_t**2)
    earlier = (shape.n_layers - 1) * (tokens * per_token + 2 * pairs * (2 * d + d_t * shape.n_heads))
    last = 2 * tokens * (2 * d**2 + d_t**2)  # keys and values
    last += 2 * n * (2 * d**2 + 2 * d * shape.inner_size) + 2 * tokens * (2 * d + d_t * shape.n_heads)
    return earlier + last + 2 * n * (d * shape.n_items + shape.head_parameters)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU is done; a CPU is always."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_speed(product: Product, device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP per second of one product, the best of repetitions over ``seconds``."""
    m, k, n = product
    left, right = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
    result = torch.empty(m, n, device=device, dtype=dtype)
    repetitions = 20 if device.type == "cuda" else 1  # a GPU's products are shorter than the wait for it
    torch.mm(left, right, out=result)
    synchronize(device)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(repetitions):
            torch.mm(left, right, out=result)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / repetitions)
    return 2 * m * k * n / best


def measure_peak(
    device: torch.device, seconds: float = 1.0, dtype: torch.dtype = torch.float32
) -> tuple[float, dict[Product, float]]:
    """FLOP per second: the best, and that of every product."""
    speeds = {product: product_speed(product, device, dtype, seconds) for product in PRODUCTS}
    return max(speeds.values()), speeds


def main() -> None:
    parser = argparse.ArgumentParser(description="Measured peak of matrix multiplication.")
    parser.add_argument("--seconds", type=float, default=1.0, help="per product")
    seconds = parser.parse_args().seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"{name}, torch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
        peak, speeds = measure_peak(device, seconds, dtype)
        print(f"\n| {dtype} product | GFLOP/s |\n|---|---|")
        for (m, k, n), speed in speeds.items():
            print(f"| [{m}, {k}] x [{k}, {n}] | {speed / 1e9:,.1f} |")
        print(f"| **peak** | **{peak / 1e9:,.1f}** |")


if __name__ == "__main__":
    main()
