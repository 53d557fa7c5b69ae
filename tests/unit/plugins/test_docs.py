"""The files in the documents on functions and plugins are files that work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
_BLOCK = re.compile(r"```python\n# ((?:functions|plugins)/\w+\.py)\n(.*?)```", re.DOTALL)

_READ = """
import pathlib, sys
from skipper.instance import loader
from skipper.instance.jobs import Job, JobKind
from skipper.instance.plugins import Plugins

project = loader.project_of(pathlib.Path(sys.argv[1]))
loader.make_importable(project)
plugins = Plugins(project.plugins_dir)
pools = ("cpu", "gpu")
report = loader.survey(project, plugins, pools)
assert not report.broken, report.broken
assert not plugins.broken, plugins.broken
for source in report.sources:
    job = Job(kind=JobKind.READ, project_dir=project.folder, source=source, pools=pools)
    report = loader.read(job, plugins, loader.texts_of(project, source))
    assert not report.broken, report.broken
    print(*(spec.name for spec in report.specs))
print(*plugins.names)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with every file that the documents show in full."""
    folder = tmp_path_factory.mktemp("project")
    for page in ("functions.md", "plugins.md", "schedules.md"):
        for name, text in _BLOCK.findall((DOCS / page).read_text()):
            file = folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    (folder / "shared").mkdir()
    (folder / "shared" / "common.py").write_text(
        "import skipper\n\n\n@skipper.data\ndef ping() -> str:\n    return 'pong'\n"
    )
    return folder


def _run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_loads_and_serves_what_the_text_describes(project: Path) -> None:
    found = _run(_READ, str(project)).split()

    assert {"iris.train", "stream.Counter", "squares.root", "houses.price", "common.ping"} <= set(
        found
    )
    assert "nightly.refresh" in found
    assert {"arrays", "more_functions", "polars_support", "torch_support", "warehouse"} <= set(
        found
    )


def test_the_array_format_keeps_arrays(project: Path) -> None:
    script = """
import pathlib, sys, tempfile
import numpy as np
from skipper.instance.plugins import Plugins

hook = Plugins(pathlib.Path(sys.argv[1]) / "plugins").hook
folder = pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1]))
value = {"a": np.arange(6).reshape(2, 3)}
assert hook.skipper_save_model(value=value, folder=folder) == "arrays"
assert (hook.skipper_load_model(format="arrays", folder=folder)["a"] == value["a"]).all()
assert list(hook.skipper_libraries(imports=frozenset({"warehouse"}))) [0] == ["polars"]
hook.skipper_instance_started(threads=1)
"""
    _run(script, str(project))


def test_the_sample_of_the_first_page_trains_and_answers(project: Path) -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from functions import iris, squares, stream

model = iris.train()
assert model.metrics["accuracy"] > 0.9
assert iris.predict([5.1, 3.5, 1.4, 0.2], model=model.value) == {"kind": 0}
assert squares.root(9.0) == 3.0
assert list(stream.count(3)) == [0, 1, 2]
assert (stream.Counter(2), stream.Counter(2)) == (2, 4)
"""
    _run(script, str(project))
