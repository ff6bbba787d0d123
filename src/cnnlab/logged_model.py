"""The model that a run keeps in MLflow: for `mlflow.pyfunc` with names and probabilities, and for `mlflow.pytorch`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from weakref import WeakSet

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils import requirements_utils
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from cnnlab.portable import Portable, program_of, write_program
from cnnlab.tracking.provenance import environment
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import Tag

ANSWERING = Path(__file__).with_name("answering.py")
NETWORK, PROGRAM = "network", "model.pt2"  # where answering.py, and MLflow's own PyTorch loader, look for the program
REQUIRED = ("mlflow", "numpy", "pandas", "torch")
NAME = "model"
CODE_MODULE = "code_model_"  # how MLflow's name for a model's code begins
LABELS = "labels"  # the parameter of `predict` that asks for names


@dataclass(frozen=True)
class About:
    """What is said of a model: its name, a text in Markdown, and name and digest of the data it was measured on."""

    name: str
    text: str
    dataset: tuple[str, str]


@dataclass(frozen=True)
class Flavor:
    """What MLflow calls a flavor: `Model.log` hands its `save_model` the folder that becomes the model."""

    program: torch.export.ExportedProgram
    facts: Mapping[str, object]
    example: Tensor  # uint8 [N, C, H, W]

    def save_model(self, path: str, mlflow_model: Model) -> None:
        """Write the folder: the program, the code that answers with it, and what both need."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, NETWORK)
            folder.mkdir()
            write_program(self.program, self.facts, folder / PROGRAM)
            mlflow.pyfunc.save_model(
                path,
                python_model=str(ANSWERING),
                artifacts={NETWORK: str(folder)},
                mlflow_model=mlflow_model,
                signature=self.signature(),
                input_example=self.example.numpy(),
                pip_requirements=[line for line in environment().splitlines() if line.split("==")[0] in REQUIRED],
            )
        # By name: the loader looks for it in the model's own folder.
        mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]["model_code_path"] = ANSWERING.name
        mlflow_model.add_flavor(
            mlflow.pytorch.FLAVOR_NAME,
            model_data=f"artifacts/{NETWORK}",
            pytorch_version=str(torch.__version__),
            code=None,
        )
        mlflow_model.save(str(Path(path, MLMODEL_FILE_NAME)))

    def signature(self) -> ModelSignature:
        """Return what the model answers; what it takes it checks itself, as MLflow's check knows one type alone."""
        classes = self.facts["class_names"]
        assert isinstance(classes, list)
        outputs = Schema([TensorSpec(np.dtype("float32"), (-1, len(classes)))])
        return ModelSignature(outputs=outputs, params=ParamSchema([ParamSpec(LABELS, "boolean", False)]))


def log_model(
    run: TrackedRun, model: Portable, facts: Mapping[str, object], images: Tensor, about: About
) -> str | None:
    """Keep the model with the open run; `images` are an example, uint8 [N, C, H, W].

    Returns its address; None where a server gives it one when it is delivered. Raises UsageError for a network that
    cannot be exported; nothing is kept then.
    """
    with nothing_left_in_memory(), without_comparing():
        return _log(run, model, facts, images, about)


@contextmanager
def without_comparing() -> Iterator[None]:
    """Let MLflow not compare what a model needs with what is installed: it is what is installed.

    For that it reads the names of all files of all packages, which takes as long as the rest.
    """
    with mock.patch.object(requirements_utils, "_check_requirement_satisfied", lambda requirement: None, create=True):
        yield


@contextmanager
def nothing_left_in_memory() -> Iterator[None]:
    """Forget what is kept of each exported model for the rest of the process: a worker keeps hundreds.

    MLflow keeps the code of a model as a module with a name of its own. torch keeps the shapes that an export asked for
    and, without a limit, answers about shapes together with all that they were about. The shapes keep the example input
    and its sizes keep the shapes, in C++, where Python's collector does not look: the exported program never goes.
    """
    known, made = set(sys.modules), WeakSet[ShapeEnv]()
    begin = ShapeEnv.__init__

    def noted(shapes: ShapeEnv, *arguments: object, **options: object) -> None:
        begin(shapes, *arguments, **options)  # type: ignore[arg-type]
        made.add(shapes)

    forget_answers()  # as those of the model before were asked for again while it was freed
    try:
        with mock.patch.object(ShapeEnv, "__init__", noted):
            yield
    finally:
        for name in set(sys.modules) - known:
            if name.startswith(CODE_MODULE):
                del sys.modules[name]
        FakeTensorMode.cache_clear()
        for shapes in made:
            shapes.tracked_fakes = None
        forget_answers()


def forget_answers() -> None:
    """Forget what torch has answered about the shapes of exports, and with it those exports."""
    for member in vars(ShapeEnv).values():
        if cache_clear := getattr(member, "cache_clear", None):
            cache_clear()


def _log(run: TrackedRun, model: Portable, facts: Mapping[str, object], images: Tensor, about: About) -> str | None:
    flavor = Flavor(program_of(model, torch.float32, images.shape[1:]), facts, images)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, NAME)
        flavor.save_model(str(folder), Model(run_id=run.run_id, metadata=dict(facts)))
        return run.log_model(about.name, folder, {str(Tag.NOTE): about.text}, about.dataset)
