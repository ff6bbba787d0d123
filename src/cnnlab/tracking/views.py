"""The ways to look at an experiment's runs that MLflow's pages offer as "Saved views": tags of the experiment.

MLflow documents their format nowhere: it is what its pages write where somebody saves a view, in the version that
requirements.lock has, and tests/tracking/test_pages_in_browser.py sees each opened by it.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence

from cnnlab.tracking.schema import Metric, Tag

State = Mapping[str, object]

VIEW = "mlflow.sharedViewState."  # + the name that stands in the address
MADE = "mlflow.cnnlab.views"  # of an experiment: which version of these views it was given; the user may delete them
VERSION = "1"
PACKED = "deflate;"
LEADERBOARD, CURVES = "leaderboard", "curves"
DRAWN = "Learning curves"  # the section of the charts
KIND = {"mlflow.experimentKind": "custom_model_development"}
RESULTS = f"tags.`{Tag.SETTINGS}` LIKE '%'"  # which trials and sweeps have not
STANDING = f"{RESULTS} AND attributes.status != 'FAILED' AND attributes.status != 'KILLED'"


def metric(name: str) -> str:
    """Return how MLflow's pages name a metric's column."""
    return f"metrics.`{name}`"


def tag(name: str) -> str:
    """Return how MLflow's pages name a tag's column."""
    return f"tags.`{name}`"


# Columns and their widths (pixels): together as wide as the table on a screen of 1440.
MODEL_COLUMNS = {tag(Tag.MODEL): 100, tag(Tag.REGULARIZATION): 120}
RESULT_COLUMNS = {metric(Metric.BEST_VAL_ACCURACY): 105, metric(Metric.TEST_ACCURACY): 90}
LEADERBOARD_COLUMNS = {
    **RESULT_COLUMNS,
    metric(Metric.TRAINING_SECONDS): 130,
    **MODEL_COLUMNS,
    tag(Tag.PARAMETERS): 100,
    tag(Tag.SEED): 60,
}
MEANS = (Metric.BEST_VAL_ACCURACY, Metric.TEST_ACCURACY, Metric.TEST_LOSS, Metric.TRAINING_SECONDS)
SETTING = (Tag.MODEL, Tag.REGULARIZATION, Tag.SETTINGS)
BEST_FIRST: State = {"orderByKey": metric(Metric.BEST_VAL_ACCURACY), "orderByAsc": False}
# Where MLflow puts the charts of metrics, by the part of their names before the last slash; folded beside the curves.
SECTIONS = (
    *("train", "val", "test", "best/train", "best/val", "best_trial", "winner/test", "trials", "cost", "compare"),
    *("Model metrics", "System metrics"),
)


def state(columns: Mapping[str, int], changes: State, name_width: int = 195) -> State:
    """Return a view as MLflow's pages keep it: their own defaults, with these columns, as wide, and changes."""
    widths = {"0": 70, "attributes.`Run Name`": name_width, "runDateAndNestInfo": 145, "duration": 70, **columns}
    defaults = {
        "searchFilter": STANDING,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    return {**defaults, **changes}


def line_chart(title: str, metrics: Sequence[str]) -> State:
    """Return a chart of several metrics over the epochs."""
    return {
        "uuid": title,
        "type": "LINE",
        "runsCountToCompare": 10,
        "metricSectionId": DRAWN,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def section(name: str, *, shown: bool) -> State:
    """Return a section of the charts, folded unless `shown`."""
    return {
        "uuid": name,
        "name": name,
        "display": shown,
        "isReordered": True,
        "deleted": False,
        "isGenerated": not shown,
        "columns": 2 if shown else 3,
    }


SETTINGS_GROUP = {
    "aggregateFunction": "average",
    "groupByKeys": [{"mode": "tag", "groupByData": str(name)} for name in SETTING],
}
CHARTS = [
    line_chart("loss: training and validation", (Metric.TRAIN_LOSS, Metric.VAL_LOSS)),
    line_chart("accuracy: training and validation", (Metric.TRAIN_ACCURACY, Metric.VAL_ACCURACY)),
]
CHARTED = {
    "compareRunCharts": CHARTS,
    "compareRunSections": [section(DRAWN, shown=True), *(section(name, shown=False) for name in SECTIONS)],
    "isAccordionReordered": True,
}
VIEWS: Mapping[str, tuple[str, State]] = {
    LEADERBOARD: ("Leaderboard", state(LEADERBOARD_COLUMNS, BEST_FIRST)),
    "means": (
        "Means over seeds",
        state({metric(name): 126 for name in MEANS}, {**BEST_FIRST, "groupBy": SETTINGS_GROUP}, name_width=395),
    ),
    CURVES: ("Curves", state(LEADERBOARD_COLUMNS, {**BEST_FIRST, **CHARTED})),
    "newest": (
        "Everything, newest first",
        state({"attributes.`Description`": 305, **RESULT_COLUMNS, **MODEL_COLUMNS}, {"searchFilter": ""}),
    ),
}


def guide(experiment_id: str) -> str:
    """Return the description of an experiment, in which each view is a link: "Views" does not switch to the charts."""
    links = {
        key: f"[{name}](#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"
        for key, (name, _) in VIEWS.items()
    }
    links[CURVES] += "&compareRunsMode=CHART"
    shown = " · ".join(f"{link})" for link in links.values())
    return f"Which run is best, and how to repeat it: {shown}"


def experiment_tags() -> dict[str, str]:
    """Return what an experiment is given when it is created: its kind and its views."""
    now = time.time_ns() // 1_000_000
    views = {f"{VIEW}{key}": packed(name, kept, now) for key, (name, kept) in VIEWS.items()}
    return KIND | views | {MADE: VERSION}


def missing_tags(experiment_id: str, present: Mapping[str, str]) -> dict[str, str]:
    """Return what an experiment with these tags was not given yet; its own description stays."""
    tags = experiment_tags() if present.get(MADE) != VERSION else {}
    return tags if Tag.NOTE in present else tags | {str(Tag.NOTE): guide(experiment_id)}


def packed(name: str, kept: State, now: int) -> str:
    """Return a view as the value of its tag."""
    content = PACKED + base64.b64encode(zlib.compress(json.dumps(kept).encode())).decode()
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": content})


def kept_state(value: str) -> State:
    """Return the state in the value of a view's tag."""
    content = str(json.loads(value)["state"])
    text = zlib.decompress(base64.b64decode(content[len(PACKED) :])) if content.startswith(PACKED) else content
    found = json.loads(text)
    assert isinstance(found, dict)
    return found
