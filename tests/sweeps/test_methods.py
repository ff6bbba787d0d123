"""Every shipped sampler fills a shared study, also after one of its trials died."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cnnlab.errors import UsageError
from cnnlab.settings.base import Own
from cnnlab.settings.read import read
from cnnlab.settings.sweep import Sweep
from cnnlab.sweeps.goals import Goals
from cnnlab.sweeps.grammar import parse
from cnnlab.sweeps.methods import build_pruner, build_sampler
from cnnlab.sweeps.space import Space
from cnnlab.sweeps.study import counted, offered, open_study, requeue
from cnnlab.sweeps.suggestion import suggest
from commands import composed

CONF = Path(__file__).resolve().parents[2] / "conf"
SPACE = Space((parse("a", "range(0, 4)"), parse("b", "choice(x, y, z)")))
TOTAL = 12


def settings_of(group: str, name: str) -> Own:
    return read(Own, composed("sweep.name=s", f"{group}={name}", config_name="sweep")[group])


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "sampler").glob("*.yaml")))
def test_samplers_fill_a_study_exactly(tmp_path, name):
    values = composed("sweep.name=s", f"sweep.storage=sqlite:///{tmp_path}/sweeps.db", config_name="sweep")["sweep"]
    sweep = read(Sweep, values)

    def join() -> tuple:
        sampler = build_sampler(settings_of("sampler", name), SPACE, Goals(("val/acc",)))
        return open_study(sweep, "study", ["maximize"], sampler)

    def objective(trial: optuna.Trial) -> float:
        values = {parameter.key: suggest(trial, parameter) for parameter in SPACE}
        return values["a"] + "xyz".index(values["b"])

    study, lock = join()
    with offered(study, lock, TOTAL):
        lost = study.ask()
    for parameter in SPACE:
        suggest(lost, parameter)
    requeue(study, lock, study.get_trials()[0], 3)
    workers = [join(), join()]
    workers[1][0].sampler.reseed_rng()
    for turn in range(TOTAL):
        worker, its_lock = workers[turn % 2]
        with offered(worker, its_lock, TOTAL) as waiting:
            assert waiting
            worker.optimize(objective, n_trials=1)
    with offered(study, lock, TOTAL) as waiting:
        assert not waiting
    trials = counted(study.get_trials())
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * TOTAL
    assert trials[0].params == study.get_trials()[0].params
    if name == "grid":
        assert len({tuple(trial.params.items()) for trial in trials}) == TOTAL


def test_a_first_worker_repeats_a_sweep_and_the_others_draw_their_own():
    def first(reseeded: bool) -> dict:
        sampler = build_sampler(settings_of("sampler", "random"), SPACE, Goals(("val/acc",)))
        if reseeded:
            sampler.reseed_rng()
        study = optuna.create_study(sampler=sampler)
        return {str(index): study.ask().suggest_float("a", 0, 1) for index in range(3)}

    assert first(False) == first(False)
    assert first(True) != first(False)


def test_what_is_not_optunas_is_refused():
    with pytest.raises(UsageError, match="not one of Optuna's pruners"):
        build_pruner(read(Own, {"_target_": "builtins.dict"}))
    with pytest.raises(UsageError, match="n_warmup"):
        build_pruner(read(Own, {"_target_": "optuna.pruners.MedianPruner", "n_warmup": 3}))
