"""The samples of this repository, end to end on TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import Grow
from tests.acceptance.events import sse

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)  # TensorFlow is imported twice: for its template of each pool
def test_boston_is_trained_and_asked_for_a_price(grow: Grow, tmp_path: Path) -> None:
    for part in ("functions", "skipper.toml"):
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        copy(REPOSITORY / part, tmp_path / part)
    tree = grow(tmp_path).start()
    tree.wait_for_functions()
    assert not tree.broken()
    early = tree.invoke("boston.predict", {"rm": 6.5})
    assert early.status_code == 503
    assert "boston.train" in early.json()["detail"]
    task_id = tree.submit("boston.train", {"epochs": 30})
    with tree.http.stream("GET", f"/v1/tasks/{task_id}/events") as response:
        events = list(sse(response))
    progress = [event.data for event in events if event.type == "progress"]
    assert [each["done"] for each in progress] == list(range(1, 31))
    assert progress[-1]["loss"] < progress[0]["loss"]
    result = tree.result(task_id)
    assert (result["name"], result["version"]) == ("boston", 1)
    assert result["metrics"]["rmse"] < 6
    small, large = (tree.value("boston.predict", {"rm": rm})["price"] for rm in (4.5, 8.0))
    assert 5 < small < large < 60
    response = tree.invoke("boston.predict", {"rm": 6.5})
    assert response.headers["x-skipper-model"] == "boston@1"
    assert tree.invoke("boston.predict", {"rooms": 6.5}).status_code == 422
    tree.end()
