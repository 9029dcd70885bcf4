"""Layer epochs of a study → the saved view in which MLflow's page shows the study well.

MLflow keeps saved views in experiment tags, in an undocumented form that was read off one saved by hand in MLflow 3.17:
JSON with a deflated state of the page. Another version that does not know a part of it falls back to its own page.
"""

import base64
import json
import zlib
from typing import Any

from study import run_log_schema as schema

VIEW_KEY = "study"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
COLUMNS = (
    "params.`depth`",
    "params.`normalization`",
    "params.`activation`",
    "params.`dilution`",
    "params.`optimizer`",
    "params.`learning_rate`",
    "params.`seed`",
    f"metrics.`{schema.FINAL_TRAIN_ERROR}`",
    f"metrics.`{schema.FINAL_TEST_ERROR}`",
    f"metrics.`{schema.FINAL_LOG10_GSC}`",
    f"tags.`{schema.TAG_STATUS}`",
)


LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where `make ui` serves a tracking database of this machine."""


def view_link(experiment_id: str, tracking_uri: str) -> str:
    """Return the address that opens the study's charts in this view."""
    server = tracking_uri.rstrip("/") if tracking_uri.startswith("http") else LOCAL_SERVER
    return (
        f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
        f"&viewStateShareKey={VIEW_KEY}"
    )


def make_view_tag(layer_epochs: list[int]) -> str:
    """Return the value of VIEW_TAG: GSC by layer first, then errors, then GSC by epoch; deepest runs first."""
    sections = {
        "GSC by layer": [(f"epoch {epoch}", schema.layer_metric(epoch)) for epoch in layer_epochs],
        "Error, step = epoch": [("training error", schema.TRAIN_ERROR), ("test error", schema.TEST_ERROR)],
        "GSC, step = epoch": [
            ("log10 GSC, input to logits", schema.LOG10_GSC_TO_LOGITS),
            ("explosion rate per layer", schema.EXPLOSION_RATE),
        ],
        "Collapsing domain, step = epoch": [
            ("pre-activation standard deviation", schema.PREACTIVATION_STD),
            ("sign diversity", schema.SIGN_DIVERSITY),
            ("linear fit error", schema.LINEAR_FIT_ERROR),
        ],
        "Optimizer and loss, step = epoch": [
            ("training loss", schema.TRAIN_LOSS),
            ("test loss", schema.TEST_LOSS),
            ("gradient norm", schema.GRADIENT_NORM),
            ("learning rate", schema.LEARNING_RATE),
        ],
    }
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,  # a study starts with its deepest networks
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunSections": [_make_section(name) for name in sections],
        "compareRunCharts": [
            _make_chart(section, title, metric) for section, charts in sections.items() for title, metric in charts
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": "Study", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})


def _make_section(name: str) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": 2,
        "cardHeight": 360,
    }


def _make_chart(section: str, title: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": metric,
        "type": "LINE",
        "runsCountToCompare": 20,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
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
