"""A tracking store with rows that differ in settings alone, a second dataset, curves, pictures and a sweep."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param
from PIL import Image

from cnnlab.tracking.schema import Role, Tag
from cnnlab.tracking.store import prepare

NAMES = ["zero", "one", "<two>"]
LONG = "regularization.dense_dropout,0.16,12\n"  # a name that is long on a phone
WIDE = "callbacks.early_stopping.patience"  # and one that is wider than half of it


def fill(folder: Path) -> str:
    """Make the store and return its address."""
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(uri) if prepare(uri, "digits") else None
    assert client is not None
    for place, (dataset, rate) in enumerate([("digits", 0.01), ("digits", 0.1), ("mnist", 0.01)]):
        for seed in range(3):
            add(client, folder, dataset, rate, seed, 0.97 - 0.03 * place + 0.004 * seed)
    sweep = client.create_run(
        prepare(uri, "digits"),
        tags={
            Tag.ROLE: Role.SWEEP,
            "dataset": "digits",
            "model": "mlp",
            Tag.STUDY: "digits-mlp",
            Tag.COMMAND: "python sweep.py search=mlp",
            Tag.BEST_TRIAL: "4",
            Tag.BEST_PARAMETERS: "optimizer.lr=0.02",
        },
    ).info.run_id
    for name, text, under in (
        ("trials.csv", "trial,state\n0,complete\n1,pruned\n4,complete\n", None),
        ("importances.csv", "parameter,importance,trials\noptimizer.lr,0.84,12\n" + LONG, "plots"),
    ):
        (folder / name).write_text(text)
        client.log_artifact(sweep, str(folder / name), under)
    client.set_terminated(sweep)
    return uri


def add(client: mlflow.MlflowClient, folder: Path, dataset: str, rate: float, seed: int, reached: float) -> None:
    tags = {
        "dataset": dataset, "model": "mlp", "regularization": "none", "parameters": str(50_000 + int(1000 * rate)),
        "settings": f"{dataset}{rate}", "device": "cpu", "seed": str(seed), "git.commit": "abcdef",
        "overrides": f"model=mlp dataset={dataset} optimizer.lr={rate}",
    }  # fmt: skip
    run_id = client.create_run(prepare(client.tracking_uri, dataset), tags=tags).info.run_id
    ends = {"best/val/acc": reached, "test/acc": reached - 0.01, "epochs": 5.0, "training_seconds": 3.0 + seed}
    entries = [Metric(name, value, 0, 5) for name, value in ends.items()]
    for epoch in range(1, 6):
        curves = {"train/loss": 1 / epoch, "val/loss": 1.2 / epoch, "train/acc": 1 - 0.3 / epoch}
        curves["val/acc"] = reached - 0.3 / epoch
        entries += [Metric(name, value, 0, epoch) for name, value in curves.items()]
    settings = {"model.name": "mlp", "optimizer.name": "adam", "optimizer.lr": str(rate), "seed": str(seed)}
    settings = {WIDE: "10" if rate == 0.1 else "5", **settings}
    client.log_batch(run_id, entries, [Param(key, value) for key, value in settings.items()])
    rows = [["true \\ predicted", *NAMES], *([name, "3", "1", "0"] for name in NAMES)]
    (folder / "confusion_matrix.csv").write_text("\n".join(",".join(row) for row in rows))
    Image.linear_gradient("L").save(folder / "mistakes.png")
    for name in ("confusion_matrix.csv", "mistakes.png"):
        client.log_artifact(run_id, str(folder / name), "figures")
    client.set_terminated(run_id)
