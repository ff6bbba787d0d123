"""What a command imports: what it needs, and what is asked of it later."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest
from torchvision import datasets

from cnnlab import lean
from cnnlab.data.mnist import FILES, PUBLISHED
from commands import ROOT, environment

HEAVY = ("scipy.signal", "scipy.stats", "sklearn", "torchvision", "matplotlib", "sympy", "torch._dynamo.utils")

# A training whose first step is watched: the modules that are there by then.
TRAINING = f"""
import sys
import threading
import time

def tell(*step):
    if not hasattr(tell, "done"):
        tell.done = True
        print("there:", [name for name in {HEAVY!r} if name in sys.modules])

def watch():
    while not hasattr(sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_post_hook"):
        time.sleep(0.001)
    sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(tell)

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "train.py"
from cnnlab.door import open_door
open_door("train")
"""

COMPILER = """
import sys
from cnnlab import compiler, lean
lean.import_libraries()
import torch
import pytorch_lightning as pl
from torch._dynamo import OptimizedModule
assert isinstance(sys.modules["torch._dynamo"], compiler.Compiler)
layer = torch.nn.Linear(3, 2)
weight = layer.weight.detach().clone()
optimizer = torch.optim.Adam(layer.parameters())
layer(torch.ones(4, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad()
assert not torch.equal(weight, layer.weight) and layer.weight.grad is None
assert not isinstance(layer, OptimizedModule) and isinstance(sys.modules["torch._dynamo"], compiler.Compiler)
import torch._dynamo.utils as parts
import torch._dynamo
assert parts is sys.modules["torch._dynamo.utils"] is torch._dynamo.utils
assert not isinstance(torch._dynamo, compiler.Compiler) and parts.__spec__.name == "torch._dynamo.utils"
made = torch.compile(layer, backend="eager")
assert isinstance(made, OptimizedModule) and not isinstance(layer, OptimizedModule)
assert torch.allclose(made(torch.ones(4, 3)), layer(torch.ones(4, 3)))
optimizer.step()
print("compiled")
"""


def python(script: str, folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**path), capture_output=True, text=True, timeout=120)


@pytest.mark.cold
def test_a_training_waits_for_no_library_that_it_does_not_need(tmp_path):
    quick = ("model=dnn", "trainer.max_epochs=1", "figures.enabled=false", "tracking.log_model=false")
    done = python(TRAINING, tmp_path, *quick)
    assert "there: []" in done.stdout, done.stdout + done.stderr
    assert "test/acc" in done.stdout


@pytest.mark.cold
def test_the_compilers_stand_in_takes_steps_and_gives_way_to_the_compiler(tmp_path):
    done = python(COMPILER, tmp_path)
    assert done.stdout == "compiled\n", done.stderr


@pytest.mark.parametrize(
    ("section", "names"),
    [({"_target_": "mine.net"}, True), ({"mine": {"_target_": "mine.Watcher"}}, True), ({"name": "dnn"}, False)],
)
def test_own_code_is_found_in_whatever_depth(section, names):
    assert lean.names_code({"seed": 0, "callbacks": section, "metrics": ["f1"]}) == names
    assert lean.names_code({"metrics": ["f1", section]}) == names


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_down_of_a_dataset_is_what_torchvision_knows(name):
    ours, theirs = PUBLISHED[name], getattr(datasets, PUBLISHED[name].folder)
    classes = tuple(name.partition(" - ")[0] if ours.folder == "MNIST" else name for name in theirs.classes)
    expected = {"mirrors": tuple(theirs.mirrors), "classes": classes, "folder": theirs.__name__}
    assert asdict(ours) == expected | {"md5s": tuple(md5 for _, md5 in theirs.resources)}
    assert tuple(file for file, _ in theirs.resources) == FILES
