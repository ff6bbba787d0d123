"""What an experiment is given for MLflow's pages, and what their first page brings."""

from __future__ import annotations

import asyncio

import mlflow
import pytest

from cnnlab.tracking.colors import PALETTE, color_tags
from cnnlab.tracking.descriptions import description, is_own, wrapped
from cnnlab.tracking.pages import STYLE, Pages, are_known, script
from cnnlab.tracking.schema import Tag
from cnnlab.tracking.store import prepare
from cnnlab.tracking.views import LEADERBOARD, VIEW, VIEWS, kept_state


@pytest.fixture
def uri(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_an_experiment_has_its_views_and_an_older_one_gets_them_once(uri):
    client = mlflow.MlflowClient(uri)
    experiment = prepare(uri, "new")
    tags = client.get_experiment(experiment).tags
    assert {key.removeprefix(VIEW) for key in tags if key.startswith(VIEW)} == set(VIEWS)
    assert kept_state(tags[f"{VIEW}{LEADERBOARD}"]) == VIEWS[LEADERBOARD][1]
    older = client.create_experiment("older", tags={str(Tag.NOTE): "mine"})
    prepare(uri, "older")
    assert client.get_experiment(older).tags[Tag.NOTE] == "mine"
    client.delete_experiment_tag(older, f"{VIEW}{LEADERBOARD}")
    prepare(uri, "older")
    assert f"{VIEW}{LEADERBOARD}" not in client.get_experiment(older).tags, "somebody did not want it"


def test_each_setting_has_a_colour_of_its_own(uri):
    client, experiment = mlflow.MlflowClient(uri), prepare(uri, "digits")
    digests = [f"{number:012x}" for number in range(len(PALETTE))]
    given = [color_tags(client, uri, experiment, {Tag.SETTINGS: digest})[Tag.COLOR] for digest in digests]
    assert given == list(PALETTE)
    assert color_tags(client, uri, experiment, {Tag.SETTINGS: digests[3]}) == {Tag.COLOR: PALETTE[3]}
    assert color_tags(client, uri, experiment, {}) == {}


def test_a_description_that_somebody_has_changed_is_theirs():
    text = description("test/acc 0.9", "", "python train.py")
    assert is_own(text) and is_own("") and text.startswith("test/acc 0.9\n\npython train.py\n\n")
    assert not is_own(text.replace("0.9", "0.99")) and not is_own("mine")


def test_a_long_command_is_wrapped_as_a_shell_takes_it():
    words = [f"a.long.key.of.a.setting={number}" for number in range(6)] + ["'b=[1, 2]'"]
    lines = wrapped(" ".join(words)).split("\n")
    assert all(len(line) < 90 for line in lines) and all(line.endswith(" \\") for line in lines[:-1])
    assert " ".join(line.removesuffix("\\").strip() for line in lines) == " ".join(words)


def test_the_first_page_alone_brings_the_script_and_is_never_kept():
    async def inner(scope, receive, send):
        assert scope["headers"] == [(b"host", b"x")]
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1"), (b"content-length", b"6")]}
        )
        await send({"type": "http.response.body", "body": b"<head>", "more_body": True})
        await send({"type": "http.response.body", "body": b"</head>"})

    def answer(path: str) -> tuple[bytes, dict[bytes, bytes]]:
        sent = []

        async def send(message):
            sent.append(message)

        given = [(b"host", b"x")] + ([(b"if-none-match", b"1")] if path == "/" else [])
        scope = {"type": "http", "method": "GET", "path": path, "headers": given}
        asyncio.run(Pages(inner, lambda: "<script></script>")(scope, None, send))
        return b"".join(message.get("body", b"") for message in sent), dict(sent[0]["headers"])

    body, headers = answer("/")
    assert body == b"<head>" + STYLE.encode() + b"<script></script></head>" and b"etag" not in headers
    assert headers[b"content-length"] == str(len(body)).encode() and headers[b"cache-control"] == b"no-store"
    assert answer("/other")[0] == b"<head></head>"


def test_a_name_cannot_end_the_script():
    assert script({"</script>": "x"}, "#/").count("</script>") == 1


def test_the_installed_mlflow_keeps_its_face_where_the_script_puts_it():
    assert are_known()
