"""MLflow's pages as one application, whose first page opens on training runs.

MLflow 3.17 keeps in the browser which of its two faces it shows, begins with that of chat applications, and drops the
choice from its own links. Nothing on the server changes that. So the first page brings, where the browser has none yet,
what MLflow would have stored: the face, that its assistant stays closed, and each experiment's leaderboard as the way
its runs are shown first. Among a run's metrics MLflow puts the machine's before the model's; a style turns that round.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path

from cnnlab.tracking.views import LEADERBOARD, VIEW, kept_state

Message = MutableMapping[str, object]
Scope = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

FACE = "mlflow.workflowType"  # as MLflow's pages name it; they store it under this name and a version
STORED: dict[str, object] = {
    f"{FACE}_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
}
EXPERIMENT = 'MLflowLocalStorage-1.1-ExperimentPage-["{}"]-ReactComponentState'
HEAD = b"<head>"
SCRIPT = """<script>(({stored, start}) => {
  try {
    for (const [key, value] of Object.entries(stored)) {
      if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
    }
  } catch (error) { console.warn(error); }
  if (start && !location.hash) location.hash = start;
})(GIVEN)</script>"""
# In a run's table of metrics the first row without a link heads the machine's, the second one the model's.
LINKS = '[role=row] a[href*="/model-metrics"]'
FIRST = f".table-isHeader + [role=row]:not(:has(a)):has(~ {LINKS})"
SECOND = f"{FIRST} ~ [role=row]:not(:has(a))"
STYLE = f"""<style>
div:has(> {LINKS}) {{ display: flex; flex-direction: column; }}
{FIRST}, {FIRST} ~ [role=row] {{ order: 1; }}
{SECOND}, {SECOND} ~ [role=row] {{ order: 0; }}
</style>"""
# So that no answer is "as you have it": the browser's copy is of an earlier store.
CONDITIONS = (b"if-none-match", b"if-modified-since")
OF_THE_FILE = (b"content-length", b"etag", b"last-modified", b"cache-control")


class Pages:
    """An application that answers as `inner` does, with STYLE and `first_script()` in the head of its first page."""

    def __init__(self, inner: Application, first_script: Callable[[], str]):
        self.inner = inner
        self.first_script = first_script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.inner(scope, receive, send)
            return
        headers = scope["headers"]
        assert isinstance(headers, list)
        scope["headers"] = [(name, value) for name, value in headers if name not in CONDITIONS]
        started: Message = {}
        body = b""

        async def gather(message: Message) -> None:
            nonlocal started, body
            if message["type"] == "http.response.start":
                started = message
                return
            part = message.get("body", b"")
            assert isinstance(part, bytes)
            body += part
            if message.get("more_body"):
                return
            added = (STYLE + self.first_script()).encode() if started["status"] == 200 else b""
            page = body.replace(HEAD, HEAD + added, 1)
            given = started["headers"]
            assert isinstance(given, list)
            kept = [(name, value) for name, value in given if name.lower() not in OF_THE_FILE]
            own = [(b"content-length", str(len(page)).encode()), (b"cache-control", b"no-store")]
            await send({**started, "headers": [*kept, *own]})
            await send({"type": "http.response.body", "body": page})

        await self.inner(scope, receive, gather)


def script(stored: Mapping[str, str], start: str) -> str:
    """Return what keeps `stored` in a browser, each where it has none, and goes to `start` where no page is named."""
    given = json.dumps({"stored": stored, "start": start})
    return SCRIPT.replace("GIVEN", given.replace("<", "\\u003c"))  # or a run's name could end the script


def first_script(uri: str) -> str:
    """Return the script for a store as it is now: it starts at the leaderboard of the experiment that was used last."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiments = [item for item in client.search_experiments() if f"{VIEW}{LEADERBOARD}" in item.tags]
    stored = {key: json.dumps(value) for key, value in STORED.items()}
    for experiment in experiments:
        state = kept_state(experiment.tags[f"{VIEW}{LEADERBOARD}"])
        stored[EXPERIMENT.format(experiment.experiment_id)] = json.dumps(state)
    runs = client.search_runs([item.experiment_id for item in experiments], max_results=1) if experiments else []
    return script(stored, page_of_runs(runs[0].info.experiment_id) if runs else "#/experiments")


def page_of_runs(experiment_id: str) -> str:
    """Return the page of an experiment's runs, in the face that shows them."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def are_known() -> bool:
    """Return whether the pages of the installed MLflow store their face as the tested version does."""
    import mlflow.server

    build = Path(mlflow.server.__file__).parent / mlflow.server.REL_STATIC_DIR
    page = build / "index.html"
    if not page.is_file() or HEAD not in page.read_bytes():
        return False
    scripts = (build / "static" / "js").glob("main.*.js")
    return any(f'key:"{FACE}",version:1'.encode() in file.read_bytes() for file in scripts)


def application(uri: str) -> Application:
    """Return MLflow's server over a store, in this process."""
    import uvicorn  # noqa: F401 - MLflow looks whether it is loaded, and guards itself against other hosts then
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = uri
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = "./mlartifacts"
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own imports
        from mlflow.server import fastapi_app, handlers

    handlers.initialize_backend_stores(uri, uri, "mlflow-artifacts:/")
    inner: Application = fastapi_app.app
    return Pages(inner, lambda: first_script(uri)) if are_known() else inner
