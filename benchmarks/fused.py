"""What a training step costs when K networks are one stack, against K steps of one network, by turns.

    python -m benchmarks.fused [--models dnn,mlp,simple_cnn,deep_cnn] [--stacks 1,2,4,8,16,32] [--device auto]
                               [--precision 32-true] [--seconds 1.0] [--repeats 3] [--json FILE]

The step alone: batches of 128 random images of 28x28 that lie on the device, cross-entropy, Adam as Keras computes it.
`solo` is the plain network with torch's loss and the project's optimizer, without Lightning, Optuna and MLflow: what
those cost beside it, a stack saves as well. Needs torch and numpy alone beside cnnlab's own code.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from cnnlab.fused.objective import cross_entropy  # noqa: E402
from cnnlab.fused.optimizer import Rates, StackedAdam  # noqa: E402
from cnnlab.fused.stack import Stack  # noqa: E402
from cnnlab.models import MLP, ConvNet, parameter_count  # noqa: E402
from cnnlab.optimizers import KerasAdam  # noqa: E402

SHAPE, CLASSES, BATCH = (1, 28, 28), 10, 128
DENSE = {"dnn": [64, 16], "mlp": [512]}  # as conf/model has them
CONVOLUTIONS = {"simple_cnn": [64, 128], "deep_cnn": [32, 64, 128, 256]}
COMMON: dict[str, object] = {
    "activation": "relu",
    "normalization": "none",
    "dense_initializer": "glorot_uniform",
    "dense_dropout": 0.0,
}
WARM_UP = 3


def network(model: str) -> nn.Module:
    """Return the recipe's network; deep_cnn with its dropout."""
    if model in DENSE:
        return MLP(SHAPE, CLASSES, hidden_units=DENSE[model], conv_dropout=0.0, **COMMON)  # type: ignore[arg-type]
    window = {"kernel_size": 2, "stride": 1, "padding": "same", "pooling": "max", "pool_size": 2, "hidden_units": []}
    dropout = 0.5 if model == "deep_cnn" else 0.0
    return ConvNet(
        SHAPE, CLASSES, filters=CONVOLUTIONS[model], conv_initializer="glorot_normal", conv_dropout=dropout,
        **window, **COMMON,
    )  # type: ignore[arg-type] # fmt: skip


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def solo_step(model: str, images: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    """Return one step of one network."""
    one = network(model).to(images.device, memory_format=torch.channels_last).train()
    optimizer = KerasAdam(one.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def step() -> None:
        with autocast(images.device, precision):
            logits = one(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def stacked_step(model: str, slots: int, images: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    """Return one step of a stack of so many networks, each with a rate of its own."""
    networks = [network(model).to(memory_format=torch.channels_last) for _ in range(slots)]
    generators = [torch.Generator(images.device).manual_seed(number) for number in range(slots)]
    stack = Stack(networks, generators).to(images.device).train()
    zero = (0.0,) * slots
    rates = Rates(tuple(1e-3 / (1 + number) for number in range(slots)), zero, zero, zero)
    how = {"betas": (0.9, 0.999), "eps": 1e-7, "keras": True, "decoupled": False}
    optimizer = StackedAdam(list(stack.parameters()), stack.kernels(), rates, **how)  # type: ignore[arg-type]

    def step() -> None:
        with autocast(images.device, precision):
            logits = stack(images)
        with torch.no_grad():
            _, _, gradient = cross_entropy(logits.float(), labels, None)
        logits.backward(gradient.to(logits.dtype))
        optimizer.step()

    return step


def milliseconds(step: Callable[[], None], device: torch.device, seconds: float) -> float:
    """Return the mean of as many steps as fit in the time, at least three."""
    for _ in range(WARM_UP):
        step()
    done, started = 0, now(device)
    while done < 3 or time.perf_counter() - started < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            done += 1
    return 1000 * (now(device) - started) / done


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="dnn,mlp,simple_cnn,deep_cnn")
    parser.add_argument("--stacks", default="1,2,4,8,16,32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    chosen = options.device
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"{named}, torch {torch.__version__}, {options.precision}, batches of {BATCH}; medians of {options.repeats}")
    images = torch.rand(BATCH, *SHAPE, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,), device=device)
    rows = []
    for model in options.models.split(","):
        print(f"{model} ({parameter_count(network(model)):,} parameters)")
        for slots in map(int, options.stacks.split(",")):
            torch.manual_seed(0)
            solo = solo_step(model, images, labels, options.precision)
            stacked = stacked_step(model, slots, images, labels, options.precision)
            pairs = [
                tuple(milliseconds(step, device, options.seconds) for step in (solo, stacked))
                for _ in range(options.repeats)
            ]
            one, many = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(slots * alone / together for alone, together in pairs)
            print(
                f"  {slots:3d} networks: solo {one:8.3f} ms a step, stack {many:8.3f} ms, a network "
                f"{many / slots:7.3f} ms: {ratio:5.2f} times",
                flush=True,
            )
            row = {"model": model, "stack": slots, "solo_ms": one, "stack_ms": many, "ratio": ratio, "pairs": pairs}
            rows.append(row)
    if options.json:
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
            "device": named,
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "precision": options.precision,
            "batch": BATCH,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
