"""A private PostgreSQL server for one test."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs; skip the test where there are none."""
    found = [Path(where).resolve() for name in ("initdb",) if (where := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    return found[0].parent


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server that keeps everything in `folder`, yield its address, and stop it."""
    programs = binaries()
    as_user = _other_user(folder)
    data, port = folder / "data", _free_port()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale"],
        check=True,
        stdout=subprocess.DEVNULL,
        **as_user,
    )
    options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
    control = [programs / "pg_ctl", "-D", data, "-w", "-s", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, **as_user)
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **as_user)


def _other_user(folder: Path) -> dict:
    """Return how to run a program as another user than root, as PostgreSQL demands."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "cwd": folder, "env": {"PATH": os.environ["PATH"]}}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
