"""What is kept and said of a run before its first step."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mlflow.entities import Dataset, DatasetInput, InputTag

from cnnlab.console import console
from cnnlab.job import Job
from cnnlab.models import parameter_count
from cnnlab.models.summary import layer_table
from cnnlab.networks import adaptation
from cnnlab.plan import Plan
from cnnlab.settings.base import Called, Section
from cnnlab.settings.commands import Training
from cnnlab.settings.read import as_yaml
from cnnlab.slurm import job_id
from cnnlab.tracking.provenance import code_tags, environment, machine_tags, uncommitted_diff
from cnnlab.tracking.run import TrackedRun
from cnnlab.tracking.schema import DIFF_FILE, ENVIRONMENT_FILE, SETTINGS_FILE, Tag
from cnnlab.tracking.shared_rows import log_dataset

SPLIT_NAMES = {"train": "training"}


def settings_tags(settings: Training) -> dict[str, str]:
    """Return the tags that name the chosen groups and the seed."""
    named = {
        Tag.DATASET: settings.dataset,
        Tag.MODEL: settings.model,
        Tag.REGULARIZATION: settings.regularization,
        Tag.OPTIMIZER: settings.optimizer,
    }
    tags = {str(tag): own_name(section) for tag, section in named.items()}
    validation = settings.dataset.validation
    fold = {str(Tag.FOLD): str(validation.fold)} if validation.method == "fold" else {}
    return tags | {Tag.SEED: str(settings.seed)} | fold


def own_name(section: Section) -> str:
    """Return the name of a section, for one of the user's own without a name that of its class or function."""
    name = getattr(section, "name", None)
    return section.target.rpartition(".")[2] if name is None and isinstance(section, Called) else str(name)


def start_tags(plan: Plan) -> dict[str, str]:
    """Return the tags that say what ran, where, and from which code."""
    return plan_tags(plan) | code_tags(Path.cwd()) | machine_tags(str(plan.trainer.strategy.root_device))


def plan_tags(plan: Plan) -> dict[str, str]:
    """Return the tags that say what ran."""
    size = str(parameter_count(plan.classifier.network))
    known = settings_tags(plan.settings) | {Tag.PARAMETERS: size, Tag.SETTINGS: plan.settings.digest(plan.start.digest)}
    beginning = {Tag.INITIAL_RUN: plan.start.run_id, Tag.INITIAL_WEIGHTS: plan.start.digest}
    known |= {tag: value for tag, value in beginning.items() if value is not None}
    # MLflow keeps the profile of a dataset once, as the first run with these images had it: sizes are the run's own.
    known[str(Tag.IMAGES)] = ", ".join(f"{size} {split}" for split, size in plan.data_module.sizes.items())
    known[str(Tag.TRAINING_IMAGES)] = plan.data.training_digest
    if plan.data.sealed:
        known[str(Tag.SEALED)] = "true"
    return known


def place_tags(job: Job) -> dict[str, str]:
    """Return the tags that say where a run can be gone on with."""
    identity = job_id()
    return {str(Tag.FOLDER): str(job.folder.absolute())} | ({str(Tag.SLURM_JOB): identity} if identity else {})


def introduce(run: TrackedRun, plan: Plan) -> None:
    """Show the network and the data."""
    sizes = plan.data_module.sizes
    if plan.data.layout:
        console.print(plan.data.layout, soft_wrap=True, markup=False)
    if plan.settings.batch_size == sizes["train"] < plan.settings.dataset.batch_size:
        console.print(f"batch_size: {sizes['train']}, all training images there are", soft_wrap=True)
    for line in plan.start.lines:
        console.print(line, soft_wrap=True, markup=False)
    for line in plan.choices:
        console.print(line, soft_wrap=True, markup=False)
    console.print(layer_table(plan.classifier.network, plan.data.input_shape))
    if note := adaptation(plan.classifier.network, plan.settings, plan.data.input_shape):
        console.print(note, soft_wrap=True, markup=False)
    counted = ", ".join(f"{size} {SPLIT_NAMES.get(split, split)}" for split, size in sizes.items())
    sealed = "; the test split is sealed" if plan.data.sealed else ""
    console.print(f"{plan.data.name}: {counted} images{sealed}\nMLflow run {run.run_id}", soft_wrap=True)


def record_start(run: TrackedRun, plan: Plan) -> None:
    """Keep what is known before the first step: configuration, data, code and environment."""
    data = plan.data
    run.log_parameters(plan.settings.flat() | {"threads": torch.get_num_threads()})
    run.log_text(environment(), ENVIRONMENT_FILE)
    if diff := uncommitted_diff(Path.cwd()):
        run.log_text(diff, DIFF_FILE)
    log_dataset(run.client, run.run_id, lineage(plan, data.digest))
    run.log_text(as_yaml(plan.settings), SETTINGS_FILE)  # the last: a run that has it can go on


def lineage(plan: Plan, digest: str) -> DatasetInput:
    """Return the data of a plan as MLflow keeps it with a run; `digest` is that of all the run may read."""
    data, sizes = plan.data, {split: size for split, size in plan.data_module.sizes.items() if size}
    dataset = Dataset(
        name=data.name,
        digest=digest,
        source_type="local",
        source=json.dumps({"uri": data.source}),
        profile=json.dumps({"classes": data.classes, "image": list(data.input_shape), **sizes}),
    )
    used = ", ".join(SPLIT_NAMES.get(split, split) for split in sizes)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", used)])
