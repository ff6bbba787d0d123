"""Code, versions and machine of a run, on a real git checkout."""

from __future__ import annotations

import subprocess

import pytest

from cnnlab.tracking.provenance import code_tags, environment, uncommitted_diff


def git(folder, *arguments):
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-b", "trunk")
    (tmp_path / "kept.py").write_text("lr = 1\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_clean_checkout(checkout):
    tags = code_tags(checkout)
    assert len(tags["git.commit"]) == 40
    assert (tags["git.branch"], tags["git.dirty"]) == ("trunk", "false")
    assert uncommitted_diff(checkout) == ""


def test_diff_rebuilds_the_code_that_ran(checkout, tmp_path_factory):
    (checkout / "kept.py").write_text("lr = 2\n")
    (checkout / "new.py").write_text("print('new')\n")
    (checkout / "ignored.py").write_text("secret\n")
    assert code_tags(checkout)["git.dirty"] == "true"
    diff = uncommitted_diff(checkout)
    elsewhere = tmp_path_factory.mktemp("clone")
    git(elsewhere, "clone", "-q", str(checkout), "copy")
    patch = elsewhere / "uncommitted.diff"
    patch.write_text(diff)
    git(elsewhere / "copy", "apply", str(patch))
    assert (elsewhere / "copy" / "kept.py").read_text() == "lr = 2\n"
    assert (elsewhere / "copy" / "new.py").read_text() == "print('new')\n"
    assert not (elsewhere / "copy" / "ignored.py").exists()


def test_only_new_sources_go_into_the_diff(checkout, tmp_path_factory):
    secret = "hunter2"
    outside = tmp_path_factory.mktemp("elsewhere") / "outside.py"
    outside.write_text(secret)
    (checkout / "secrets").mkdir()
    names = (".env", ".env.yaml", "prod.env", "id_rsa", "key.pem", "notes.txt", "data.csv", "ignored.py")
    named = ("api_key.py", "aws_credentials.ini", "client_secret.toml", "passwords.yaml", "secrets/all.yaml")
    for name in (*names, *named):
        (checkout / name).write_text(secret)
    (checkout / "linked.py").symlink_to(outside)
    (checkout / "large.py").write_text(f"{secret}\n" * 20_000)
    (checkout / "new.yaml").write_text("lr: 1\n")
    (checkout / "token_mixer.py").write_text("mixed = 1\n")
    for number in range(14):
        (checkout / f"many_{number:02d}.py").write_text("# many\n" * 12_000)
    diff = uncommitted_diff(checkout)
    assert "+lr: 1" in diff and "+mixed = 1" in diff and "many_00.py" in diff
    assert secret not in diff
    assert "many_13.py" not in diff


def test_outside_a_checkout(tmp_path):
    assert code_tags(tmp_path) == {}
    assert uncommitted_diff(tmp_path) == ""


def test_environment_is_what_pip_takes():
    lines = environment().splitlines()
    assert any(line.startswith("torch==2.") for line in lines)
    assert all(line.count("==") == 1 for line in lines)
