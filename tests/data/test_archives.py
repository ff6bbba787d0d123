"""Archives: offline, truncated, altered, downloaded, by one process or two."""

import gzip
import http.server
import io
import subprocess
import sys
import tarfile
import threading

import pytest

from cnnlab.data import archives
from cnnlab.data.archives import obtain
from cnnlab.errors import UsageError
from commands import environment, loaded
from data_makers import make_cifar10, make_mnist_like, md5, patch

CONTENT = b"the published archive"
UNREACHABLE = "http://127.0.0.1:9/"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine; gives its folder, its URL and the list of the paths it was asked for."""
    monkeypatch.setenv("no_proxy", "*")
    asked: list[str] = []
    folder = tmp_path / "server"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/", asked
        running.shutdown()


def test_offline_and_missing_is_one_line_with_folder_files_and_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    patch(monkeypatch, "mnist", make_mnist_like(tmp_path, "mnist") | {"mirrors": [UNREACHABLE, UNREACHABLE]})
    folder = tmp_path / "MNIST" / "raw"
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (folder / name).unlink()
    with pytest.raises(UsageError) as caught:
        loaded("mnist", root=tmp_path, download=True)
    (line,) = caught.value.problems
    assert "\n" not in line
    for part in (
        "dataset=mnist",
        str(folder),
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz",
        "dataset=digits",
    ):
        assert part in line
    assert "train-images" not in line
    assert not list(folder.glob("*.part"))


def test_download_false_never_asks_a_server(tmp_path, server):
    _, url, asked = server
    with pytest.raises(UsageError, match=r"download=false.*dataset=digits"):
        obtain("mnist", tmp_path / "raw", {"a.gz": md5(CONTENT)}, [url], download=False)
    assert asked == []


def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="dataset=mnist is missing"):
        obtain("mnist", tmp_path / "file" / "raw", {"a.gz": md5(CONTENT)}, [UNREACHABLE], download=True)


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: content[:-1] + b"!"])
def test_a_truncated_or_altered_archive_is_named_and_left_alone(tmp_path, monkeypatch, damage):
    attributes = make_mnist_like(tmp_path, "fashion_mnist")
    patch(monkeypatch, "fashion_mnist", attributes)
    path = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(UsageError) as caught:
        loaded("fashion_mnist", root=tmp_path, download=True)
    (line,) = caught.value.problems
    expected = dict(attributes["resources"])[path.name]
    assert line.startswith(str(path))
    assert expected in line and md5(damaged) in line and "delete it" in line
    assert path.read_bytes() == damaged


def test_every_altered_archive_gets_its_line(tmp_path, monkeypatch):
    patch(monkeypatch, "kmnist", make_mnist_like(tmp_path, "kmnist"))
    for path in (tmp_path / "KMNIST" / "raw").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        loaded("kmnist", root=tmp_path, download=False)
    assert len(caught.value.problems) == 4


def test_the_download_goes_on_to_a_mirror_that_has_the_file_intact(tmp_path, server, capfd):
    folder, url, _ = server
    for mirror, content in (("altered", b"something else"), ("intact", CONTENT)):
        (folder / mirror).mkdir()
        (folder / mirror / "a.gz").write_bytes(content)
    mirrors = [UNREACHABLE, f"{url}empty/", f"{url}altered/", f"{url}intact/"]
    raw = tmp_path / "raw"
    assert obtain("mnist", raw, {"a.gz": md5(CONTENT)}, mirrors, download=True) == {"a.gz": CONTENT}
    assert [path.name for path in raw.iterdir() if path.name != ".download.lock"] == ["a.gz"]
    assert capfd.readouterr() == ("", "")


def test_an_altered_download_is_never_kept(tmp_path, server):
    folder, url, _ = server
    (folder / "a.gz").write_bytes(b"something else")
    with pytest.raises(UsageError, match="the download failed"):
        obtain("mnist", tmp_path / "raw", {"a.gz": md5(CONTENT)}, [url], download=True)
    assert not list((tmp_path / "raw").glob("a.gz*"))


def test_two_processes_download_once(tmp_path, server):
    folder, url, asked = server
    for name in ("a.gz", "b.gz"):
        (folder / name).write_bytes(CONTENT)
    raw = tmp_path / "raw"
    obtain("mnist", raw, {"b.gz": md5(CONTENT)}, [url], download=True)
    requests_of_one_process = len(asked)
    code = (
        "from pathlib import Path; from cnnlab.data.archives import obtain; "
        f"obtain('mnist', Path({str(raw)!r}), {{'a.gz': {md5(CONTENT)!r}}}, [{url!r}], True)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    processes = [subprocess.Popen(command, env=environment()) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert asked.count("/a.gz") == requests_of_one_process
    assert (raw / "a.gz").read_bytes() == CONTENT


INSIDE = "cifar-10-batches-py"


def hostile_cifar(root, change) -> dict:
    """Write a CIFAR archive whose members `change` makes of those there are; return what lets it count as published."""
    attributes = make_cifar10(root)
    path = root / "cifar-10-python.tar.gz"
    with tarfile.open(path) as old:
        members = [(member, old.extractfile(member).read()) for member in old]
    with tarfile.open(path, "w:gz") as new:
        for member, content in change(members):
            new.addfile(member, io.BytesIO(content))
    return attributes | {"tgz_md5": md5(path.read_bytes())}


def outside(members, folder):
    """Add members that would be written elsewhere if anything were."""
    for name in ("../escaped", f"{INSIDE}/../../escaped", f"{folder}/escaped"):
        member = tarfile.TarInfo(name)
        member.size = 3
        yield member, b"bad"
    yield from members


def linked(members, kind=tarfile.SYMTYPE, target="/etc/passwd"):
    """Let a file of images be a link to something else."""
    for member, content in members:
        if member.name.endswith("data_batch_1"):
            member.type, member.linkname, member.size = kind, target, 0
        yield member, content


def test_what_an_archive_would_write_elsewhere_is_not_written(tmp_path, monkeypatch):
    root = tmp_path / "data"
    patch(monkeypatch, "cifar10", hostile_cifar(root, lambda members: outside(members, tmp_path)))
    before = sorted(tmp_path.rglob("*"))
    assert len(loaded("cifar10", root=root, download=False).train_labels) == 60
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (linked, "does not hold data_batch_1"),
        (lambda members: linked(members, tarfile.LNKTYPE, f"{INSIDE}/../../secret"), "does not hold data_batch_1"),
        (lambda members: members[2:], "does not hold "),
    ],
)
def test_an_archive_of_links_is_one_line(tmp_path, monkeypatch, change, words):
    patch(monkeypatch, "cifar10", hostile_cifar(tmp_path, change))
    with pytest.raises(UsageError, match=words) as caught:
        loaded("cifar10", root=tmp_path, download=False)
    assert len(caught.value.problems) == 1


def test_an_archive_that_would_fill_the_memory_is_one_line(tmp_path, monkeypatch):
    attributes = make_mnist_like(tmp_path, "mnist")
    name = attributes["resources"][0][0]
    bomb = gzip.compress(bytes(20_000_000))
    (tmp_path / "MNIST" / "raw" / name).write_bytes(bomb)
    attributes["resources"][0] = (name, md5(bomb))
    patch(monkeypatch, "mnist", attributes)
    patch(monkeypatch, "cifar10", make_cifar10(tmp_path))
    monkeypatch.setattr(archives, "LARGEST", 10_000)
    for dataset, words in (("mnist", f"{name} holds more than 10000"), ("cifar10", "data_batch_1 holds more than")):
        with pytest.raises(UsageError, match=words) as caught:
            loaded(dataset, root=tmp_path, download=False)
        assert len(caught.value.problems) == 1


def test_an_archive_cut_off_inside_is_one_line(tmp_path, monkeypatch):
    attributes = make_cifar10(tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:5000])
    patch(monkeypatch, "cifar10", attributes | {"tgz_md5": md5(path.read_bytes())})
    with pytest.raises(UsageError, match=r"cannot be read|does not hold|cannot be decompressed") as caught:
        loaded("cifar10", root=tmp_path, download=False)
    assert len(caught.value.problems) == 1
