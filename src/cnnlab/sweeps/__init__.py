"""Search the best configuration: many trials, one study, any number of processes and machines.

The story is `run.sweep`: check everything, open the study and the MLflow run, let the workers run, write the summary,
train the winner again.

**Space** (`space.py`, `grammar.py`, `configurations.py`). A search file maps configuration keys to Hydra's sweep
grammar; each entry becomes an Optuna distribution. Every key must exist in the composed configuration, and a network
must come out of each end of each range, before anything starts. Lists are single choices to Optuna, by their text;
options of a group are choices that other keys depend on.

**Study** (`study.py`, `storage.py`). One Optuna study in one database holds all there is to know, so any launch can be
killed at any time. A worker queues a trial only under the study's lock and while fewer than `sweep.n_trials` exist; one
whose process died is failed and queued again, and the pair counts once. That makes the total exact on any number of
machines. The search space, the objective and the rest of the configuration are kept with the study; a launch that
differs is refused with the difference, because its trials could not be compared with those already there.

**Workers** (`workers.py`, `worker.py`). A worker is a process of its own: one that runs out of memory or is killed
takes no other with it, and is started again. It imports and loads its dataset once. Each trial names its process in the
database; the launch that sees one of its workers dead, or a later launch on the same machine, queues its trial again at
once. Trials of other machines are known by Optuna's heartbeat.

**Trials** (`trial.py`, `setup.py`). A trial is `make_plan` and `fit` with other values, without the test split in
memory. Its value is that of the epoch whose checkpoint would be kept. Pruning asks the trainer to stop and raises after
`fit`, so that MLflow sees an orderly end.

**Together** (`together.py`, `story.py`). A trial is a story that stops where it wants a network to be trained
(`story.py`). With `sweep.fused` a worker takes several, tells them side by side, and trains those of one shape as one
program (`cnnlab.fused`).

**Promotion** (`promotion.py`). A pruned trial leaves its state on disk. Before a new trial is queued, the best of those
whose result would pass today is queued again and goes on from there.

**Winner** (`winner.py`). Training it again with fresh seeds is a second, small study of the same kind, and so survives
and is shared among machines just like the first. Only here the test split is read, once a seed.

**Results** (`results.py`, `plots.py`, `repeat.py`). Plots, `trials.csv` and `best.yaml` go to the MLflow run of the
sweep, also when it is interrupted. Every trial and winner says what `python train.py` takes to repeat it.
"""
