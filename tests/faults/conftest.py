"""A tracking server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tracking_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()
