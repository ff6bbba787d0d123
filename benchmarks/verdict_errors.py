"""How often does compare.py tell equal settings apart, and how often does it find a difference that is there?

    python -m benchmarks verdict_errors [--comparisons 200] [--different 100]

Networks of one hidden layer of 32 on the bundled digits, hundreds side by side as one batch of matrices, each with its
own weights, order of batches and dropout: 0.03 seconds of a core a network, where a run of train.py takes 0.3. Each
comparison has networks of its own, of two pools, and is decided by the very code that compare.py decides with, on the
validation accuracy of 144 images, up to 8 pairs. One process, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from cnnlab import process
from cnnlab.data import load
from cnnlab.data.split import divide
from cnnlab.job import compose_job
from cnnlab.plan import read_training
from cnnlab.settings.read import resolve
from cnnlab.verdicts.boundaries import Design
from cnnlab.verdicts.decision import Answer, Rule, find

SIDE_BY_SIDE = 160  # networks
HIDDEN, BATCH, LEARNING_RATE = 32, 32, 3e-3
DESIGN = Design(3, 8, 0.05)


@dataclass(frozen=True)
class Setting:
    epochs: int = 3
    dropout: float = 0.0


PLAIN = Setting()
# What is compared with PLAIN: itself, with other seeds; and three that differ.
OTHERS = {
    "itself": PLAIN,
    "dropout .5": Setting(dropout=0.5),
    "2 epochs": Setting(epochs=2),
    "1 epoch": Setting(epochs=1),
}


def train(setting: Setting, count: int, seed: int, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return the validation accuracy [count] of as many networks, trained by Adam."""
    images, labels, validation_images, validation_labels = data
    torch.manual_seed(seed)
    sizes = (images.shape[1], HIDDEN), (HIDDEN, 10)
    weights = [torch.randn(count, *size) * (2 / sum(size)) ** 0.5 for size in sizes]
    biases = [torch.zeros(count, 1, size[1]) for size in sizes]
    parameters = [item.requires_grad_() for item in (*weights, *biases)]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def logits(inputs: Tensor, dropout: float) -> Tensor:
        hidden = torch.baddbmm(biases[0], inputs, weights[0]).relu()
        hidden = torch.nn.functional.dropout(hidden, dropout, training=dropout > 0)
        return torch.baddbmm(biases[1], hidden, weights[1])

    for _ in range(setting.epochs):
        order = torch.rand(count, len(images)).argsort(dim=1)
        for place in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[:, place : place + BATCH]
            answers = logits(images[chosen], setting.dropout)
            # A sum over the networks: each gets the gradient of its own mean alone.
            loss = torch.nn.functional.cross_entropy(answers.flatten(0, 1), labels[chosen].flatten(), reduction="sum")
            optimizer.zero_grad()
            (loss / BATCH).backward()
            optimizer.step()
    with torch.inference_mode():
        answers = logits(validation_images.expand(count, -1, -1), 0.0)
        return (answers.argmax(dim=2) == validation_labels).double().mean(dim=1)


def pool(setting: Setting, count: int, seed: int, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> list[float]:
    """Return the accuracies of `count` networks, trained some at a time."""
    reached: list[float] = []
    while len(reached) < count:
        reached += train(setting, min(SIDE_BY_SIDE, count - len(reached)), seed + len(reached), data).tolist()
    return reached


def decide(a: list[float], b: list[float], step: float) -> dict[str, object]:
    """Return what comparisons of disjoint pairs say; B is better or worse, or they are not told apart."""
    rule, answers, pairs = Rule(DESIGN, None, step), [], []
    for place in range(0, len(a), DESIGN.last):
        part = slice(place, place + DESIGN.last)
        finding = find([second - first for first, second in zip(a[part], b[part], strict=True)], rule)
        answers.append(finding.answer)
        pairs.append(finding.pairs)
    told = sum(answer is not Answer.OPEN for answer in answers)
    interval = stats.binomtest(told, len(answers)).proportion_ci(0.95, "exact")
    return {
        "comparisons": len(answers),
        "better": answers.count(Answer.BETTER),
        "worse": answers.count(Answer.WORSE),
        "rate": told / len(answers),
        "clopper_pearson": [interval.low, interval.high],
        "mean_pairs": statistics.fmean(pairs),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comparisons", type=int, default=200, help="of the setting with itself")
    parser.add_argument("--different", type=int, default=100, help="with each setting that differs")


def measure(options: argparse.Namespace) -> dict:
    process.begin(1)
    started = time.process_time()
    dataset = read_training(resolve(compose_job("train", ["dataset.sealed=true"]).config)).dataset
    digits = load(dataset)
    index = divide(digits, dataset.validation)
    pixels = digits.train_images.flatten(1).float() / 255
    data = pixels[index[0]], digits.train_labels[index[0]], pixels[index[1]], digits.train_labels[index[1]]
    step = 1 / len(index[1])
    seed, found = 0, {}
    for name, other in OTHERS.items():
        count = DESIGN.last * (options.comparisons if other == PLAIN else options.different)
        a = pool(PLAIN, count, seed, data)
        b = pool(other, count, seed + count, data)  # other seeds: equal ones would make all differences 0
        seed += 2 * count
        result = decide(a, b, step)
        differences = [second - first for first, second in zip(a, b, strict=True)]
        known = {"difference": statistics.fmean(differences), "deviation": statistics.stdev(differences)}
        found[name] = known | result
        print(f"{name}: told apart in {result['rate']:.3f} of {result['comparisons']} comparisons", flush=True)
    minutes = (time.process_time() - started) / 60
    return {"processor_minutes": minutes, "design": [DESIGN.first, DESIGN.last], "found": found}


def told(found: dict) -> Iterator[str]:
    yield f"Comparisons of small networks on the digits, {found['processor_minutes']:.1f} minutes of one core:"
    yield ""
    for name, it in found["found"].items():
        low, high = it["clopper_pearson"]
        yield (
            f"- {name}: difference {it['difference']:+.4f}, deviation {it['deviation']:.4f} a pair; told apart in "
            f"{it['rate']:.3f} of {it['comparisons']} comparisons ({low:.3f} to {high:.3f}; better {it['better']}, "
            f"worse {it['worse']}), {it['mean_pairs']:.1f} pairs on average"
        )
