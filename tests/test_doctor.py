"""The doctor beyond the store: versions against the lock, devices, data."""

from __future__ import annotations

from cnnlab.doctor import datasets, deliveries, devices, locked_versions
from cnnlab.tracking.doctor import Verdict
from cnnlab.tracking.journal import Kind, begin
from data_makers import make_mnist_like, patch


def test_versions_are_compared_with_the_lock_for_this_platform(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("rich==0.1\n    # via cnnlab\nno-such-package==1.0\nnumpy==0.2 ; sys_platform == 'nowhere'\n")
    found = locked_versions(lock)
    assert found.verdict is Verdict.NOTE
    assert "instead of 0.1; the tested ones: pip install -r requirements.lock" in found.said
    assert "numpy" not in found.said and "no-such-package" not in found.said
    lock.write_text("no-such-package==1.0\n")
    assert locked_versions(lock).verdict is Verdict.OK


def test_data_is_verified_and_what_is_missing_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLAB_DATA", str(tmp_path))
    patch(monkeypatch, "mnist", make_mnist_like(tmp_path, "mnist"))
    said = {found.said.partition(":")[0]: found for found in datasets()}
    assert said["mnist"].said == "mnist: 80 images, as published"
    assert said["digits"].verdict is Verdict.OK
    assert said["fashion_mnist, kmnist, cifar10"].verdict is Verdict.NOTE
    archive = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-1])
    (wrong,) = [found for found in datasets() if found.verdict is Verdict.WRONG]
    assert "is truncated or altered" in wrong.said and "delete it, and the next run downloads it again" in wrong.said


def test_devices_and_precisions_are_named():
    assert [found.what for found in devices()] == ["devices", "precision"]


def test_what_waits_for_a_server_is_told_with_the_command_that_delivers_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert deliveries().said == "none waits for a server"
    journal = begin("abc")
    journal.append(Kind.BEGIN, run_id="", uri="http://nowhere", experiment="e", name="n", time=1, host="h", texts={})
    assert deliveries().verdict is Verdict.OK, "the run is under way"
    journal.release()
    found = deliveries()
    assert found.verdict is Verdict.WRONG
    assert found.said.startswith("1 of 1 runs wait for their server in mlruns/undelivered; deliver them: ")
