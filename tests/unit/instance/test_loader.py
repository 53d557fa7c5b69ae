import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from skipper.function import decorators
from skipper.hookspecs import Project
from skipper.instance import loader, source
from skipper.instance.jobs import Job, JobKind, ModuleText, Report, SourceInfo
from skipper.instance.plugins import Plugins


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project; what a test imports from it is forgotten afterwards."""
    modules, path, finders = dict(sys.modules), [*sys.path], [*sys.meta_path]
    defined = {*decorators._defined}
    (tmp_path / "functions").mkdir()
    yield loader.project_of(tmp_path)
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    for name in set(decorators._defined) - defined:
        del decorators._defined[name]


def open_project(project: Project) -> Plugins:
    loader.make_importable(project)
    return Plugins(project.plugins_dir)


@pytest.fixture
def plugins(project: Project) -> Plugins:
    return open_project(project)


@pytest.fixture
def survey(project: Project, plugins: Plugins) -> Callable[..., Report]:
    """Writes files into ``functions/`` and surveys the project; installed plugins' files aside."""

    def run(files: dict[str, str]) -> Report:
        for name, text in files.items():
            path = project.functions_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        report = loader.survey(project, plugins, ["cpu", "gpu"])
        own = tuple(s for s in report.sources if s.file.is_relative_to(project.folder))
        return report.model_copy(update={"sources": own})

    return run


def only(report: Report) -> SourceInfo:
    (found,) = report.sources
    return found


def read(report: Report, **given: Any) -> Report:
    found = only(report)
    functions_dir = next(path for path in found.file.parents if path.name == "functions")
    project = loader.project_of(functions_dir.parent)
    job = Job(kind=JobKind.READ, project_dir=project.folder, source=found, **given)
    texts = loader.texts_of(project, found)
    loader.import_from(project, texts)
    return loader.read(job, Plugins(Path("/none")), texts)


def texts_now(project: Project, found: SourceInfo) -> tuple[ModuleText, ...]:
    """What a file consists of by now, and is imported from."""
    texts = loader.texts_of(project, found)
    loader.import_from(project, texts)
    return texts


GOOD = """
    import skipper

    @skipper.data
    def rows(n: int = 3) -> list[int]:
        '''Some rows.

        They are numbers.
        '''
        return list(range(n))

    @skipper.training(pool="gpu", timeout="5m", retries=2)
    def train(*, run: skipper.Run) -> skipper.Model: ...
"""


# --- survey --------------------------------------------------------------------------------


def test_a_survey_reports_files_without_running_them(survey: Callable[..., Report]) -> None:
    report = survey({"mine.py": "raise SystemExit\nimport skipper\n@skipper.data\ndef f(): ..."})
    found = only(report)
    assert report.broken == ()
    assert (found.name, found.module, found.pools) == ("mine", "functions.mine", ("cpu",))
    assert found.code == source.code_hash(
        [ModuleText(name="functions.mine", file=found.file, text=found.file.read_bytes())]
    )
    assert found.files == (found.file,)


def test_a_file_that_does_not_parse_is_reported_beside_the_others(
    survey: Callable[..., Report],
) -> None:
    report = survey({"bad.py": "x = 1\ndef f(:", "null.py": "x = 1\0", "good.py": GOOD})
    assert only(report).name == "good"
    assert {Path(item.file).name: item.line for item in report.broken}["bad.py"] == 2
    assert {Path(item.file).name for item in report.broken} == {"bad.py", "null.py"}


def test_of_two_sources_of_one_name_one_is_served_and_the_other_named(
    survey: Callable[..., Report], project: Project
) -> None:
    report = survey({"twice.py": GOOD, "twice/__init__.py": GOOD})
    (broken,) = report.broken
    served = only(report).file
    assert {Path(broken.file).name, served.name} == {"twice.py", "__init__.py"}
    assert "twice" in broken.error
    assert str(served.relative_to(project.folder)) in broken.hint


def test_a_template_holds_what_the_file_imports_and_plugins_add(
    survey: Callable[..., Report], project: Project
) -> None:
    (project.functions_dir / "_own.py").touch()
    (project.folder / "beside").mkdir()
    text = "import no_such_library.part, json, functions._own, beside\nfrom no_such import x\n"
    assert only(survey({"mine.py": text})).libraries == ("no_such", "no_such_library.part")


def test_a_plugin_names_libraries_and_variables_for_imports(
    project: Project,
) -> None:
    folder = project.folder / "plugins"
    folder.mkdir()
    (folder / "naming_plugin.py").write_text(
        dedent("""
        import skipper
        @skipper.hook
        def skipper_libraries(imports):
            return ["no_such.inner"] if "no_such" in imports else []
        @skipper.hook
        def skipper_environment(imports):
            return {"NO_SUCH_LEVEL": "3"} if "no_such" in imports else {}
        """)
    )
    (project.functions_dir / "a.py").write_text("import no_such")
    (project.functions_dir / "b.py").write_text("import no_other")
    plugins = open_project(project)
    found = {s.name: s for s in loader.survey(project, plugins, ["cpu", "gpu"]).sources}
    assert found["a"].libraries == ("no_such", "no_such.inner")
    assert found["a"].environment == {"NO_SUCH_LEVEL": "3"}
    assert found["b"].libraries == ("no_other",)
    assert found["b"].environment == {}
    assert "naming_plugin" in plugins.names


@pytest.mark.parametrize(
    ("hook", "body", "line", "message"),
    [
        ("skipper_sources(project)", "return 1 / 0", 4, "ZeroDivisionError"),
        ("skipper_sources(project)", "yield 3", 2, "it named 3"),
        ("skipper_libraries(imports)", "raise SystemExit(1)", 4, "sys.exit(1)"),
        ("skipper_libraries(imports)", "return 'polars'", 2, "['polars']"),
        ("skipper_environment(imports)", "return {'THREADS': 1}", 2, "a dict of texts"),
    ],
)
def test_a_hook_that_fails_is_reported_with_its_place_and_everything_else_is_found(
    project: Project, hook: str, body: str, line: int, message: str
) -> None:
    file = project.folder / "plugins" / "failing_plugin.py"
    file.parent.mkdir()
    file.write_text(f"import skipper\n@skipper.hook\ndef {hook}:\n    {body}\n")
    for name in ("a.py", "b.py"):
        (project.functions_dir / name).write_text("import no_such")
    plugins = open_project(project)
    report = loader.survey(project, plugins, ["cpu", "gpu"])
    assert {"a", "b"} <= {source.name for source in report.sources}
    (broken,) = plugins.broken
    assert (broken.file, broken.line) == (str(file), line)
    assert hook.partition("(")[0] in broken.error
    assert message in broken.error
    assert "failing_plugin" not in plugins.names


# --- read and load -------------------------------------------------------------------------


def test_a_file_declares_its_functions_in_order(survey: Callable[..., Report]) -> None:
    report = read(survey({"mine.py": GOOD}), pools=("cpu", "gpu"))
    rows, train = report.specs
    assert report.broken == ()
    assert (rows.name, rows.kind, rows.mode, rows.pool) == ("mine.rows", "data", "direct", "cpu")
    assert (rows.summary, rows.line) == ("Some rows.", 4)
    assert rows.description.endswith("They are numbers.")
    assert (train.name, train.mode, train.pool) == ("mine.train", "task", "gpu")
    assert (train.timeout_s, train.max_attempts) == (300, 3)
    assert rows.code == train.code == report.code != ""


def test_what_runs_is_what_was_hashed(survey: Callable[..., Report]) -> None:
    """A file that is saved again after the survey is loaded, and hashed, as it is now."""
    report = survey({"mine.py": GOOD})
    file = only(report).file
    file.write_text(file.read_text().replace("def rows", "def lines"))
    found = read(report, pools=("cpu", "gpu"))
    assert [spec.name for spec in found.specs] == ["mine.lines", "mine.train"]
    assert found.code == source.code_hash(found.texts) != only(report).code


def test_a_version_is_loaded_again_from_its_own_text(
    survey: Callable[..., Report], project: Project
) -> None:
    """Whatever is in its files by then, in every module of a package."""
    inner = "import skipper\n@skipper.data\ndef f(): return 'good'"
    report = survey({"house/__init__.py": "from .inner import f", "house/inner.py": inner})
    good = read(report)
    survey({"house/__init__.py": "1 / 0", "house/inner.py": "2 / 0"})
    for name in [name for name in sys.modules if name.startswith("functions.house")]:
        del sys.modules[name]
    loader.import_from(project, good.texts)
    (found,) = loader.load(only(report))
    assert found() == "good"


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("import skipper\n\n1 / 0", 3, "ZeroDivisionError"),
        ("import sys\nsys.exit(3)", 2, "sys.exit(3)"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
        ("import skipper\n@skipper.data\ndef f(x: Missing): ...", 3, "Missing"),
        ("import skipper\n@skipper.data\ndef f(*args): ...", 2, "*args has no schema"),
        ("import skipper\n@skipper.data(polo='gpu')\ndef f(): ...", 2, "did you mean 'pool'?"),
        (
            "import skipper\n@skipper.data\ndef f(): ...\n@skipper.data\ndef f(): ...",
            4,
            "defined twice, on lines 2 and 4",
        ),
        ("x = 1", None, "it defines no function"),
        ("class E(BaseException): ...\nraise E", 2, "E"),
    ],
)
def test_a_file_that_does_not_load_is_reported_with_line_and_reason(
    survey: Callable[..., Report], text: str, line: int | None, error: str
) -> None:
    report = read(survey({"mine.py": text}))
    (broken,) = report.broken
    assert report.specs == ()
    assert Path(broken.file).name == "mine.py"
    assert broken.line == line
    assert error in broken.error


MISTAKES = {
    "an option": "@skipper.data(tiemout=3)\ndef {name}(): ...",
    "a value of one": "@skipper.data(timeout='soon')\ndef {name}(): ...",
    "a hint": "@skipper.data\ndef {name}(x: re.Match): ...",
    "a name that is none": "@skipper.data\ndef {name}(x: 'Nothing'): ...",
    "a pool": "@skipper.data(pool='big')\ndef {name}(): ...",
    "two decorators": "@skipper.data\n@skipper.inference\ndef {name}(): ...",
    "a decorator above": "@functools.cache\n@skipper.data\ndef {name}(): ...",
    "a name twice": "@skipper.data\ndef {name}(): ...\n@skipper.data\ndef {name}(): ...",
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=list(MISTAKES))
def test_a_function_that_is_wrong_leaves_the_others_of_its_file(
    survey: Callable[..., Report], text: str
) -> None:
    good = "@skipper.data\ndef {name}(): ...\n"
    file = "import functools, re, skipper\n" + good.format(name="first")
    file += text.format(name="wrong") + "\n" + good.format(name="last")
    found = survey({"mine.py": file})
    report = read(found, pools=("cpu",))
    assert [spec.name for spec in report.specs] == ["mine.first", "mine.last"]
    (broken,) = report.broken
    assert broken.function == "mine.wrong"
    assert broken.line is not None
    assert 4 <= broken.line <= 7
    assert [f.name for f in loader.load(only(found)) if f.name in ("mine.first", "mine.last")]


def test_all_that_is_wrong_with_a_file_is_told_at_once(survey: Callable[..., Report]) -> None:
    file = "import functools, re, skipper\n"
    file += "\n".join(text.format(name=f"f{at}") for at, text in enumerate(MISTAKES.values()))
    report = read(survey({"mine.py": file}), pools=("cpu",))
    assert report.specs == ()
    assert [item.function for item in report.broken] == [f"mine.f{at}" for at in range(8)]
    assert [item.line for item in report.broken] == sorted(item.line or 0 for item in report.broken)


def test_mistakes_before_what_ends_the_file_are_told_too(survey: Callable[..., Report]) -> None:
    text = "import skipper\n@skipper.data(tiemout=3)\ndef f(): ...\nnp.zeros(3)"
    first, last = read(survey({"mine.py": text})).broken
    assert (first.function, first.line) == ("mine.f", 2)
    assert (last.function, last.line) == ("", 4)
    assert "NameError" in last.error


GUARD = """
    import functools, skipper
    def guard(function):
        {wraps}
        def inner(*args, **kwargs):
            if args == (-4,) or kwargs == {{"x": -4}}:
                raise ValueError("no root of a negative number")
            return function(*args, **kwargs)
        return inner
"""


@pytest.mark.parametrize("wraps", ["pass", "@functools.wraps(function)"])
@pytest.mark.parametrize(
    "text",
    [
        "@guard\n@skipper.inference\ndef root(x: float) -> float: return x ** 0.5",
        "@guard\n@skipper.inference(timeout=3)\ndef root(x: float) -> float: return x ** 0.5",
        "@skipper.inference\ndef root(x: float): ...\nroot = guard(root)",
        "@functools.cache\n@skipper.inference\ndef root(x: float): ...",
        "import functools as ft\n@ft.partial\n@skipper.inference\ndef root(x: float): ...",
        "@lambda f: None\n@skipper.inference\ndef root(x: float): ...",
        "@guard\n@skipper.inference\nclass Root:\n  def __call__(self, x: float): ...",
    ],
)
def test_a_decorator_above_ours_is_refused_because_it_would_be_skipped(
    survey: Callable[..., Report], wraps: str, text: str
) -> None:
    """coleifer/huey#429"""
    (broken,) = read(survey({"mine.py": dedent(GUARD).format(wraps=wraps) + text})).broken
    assert "put @skipper.inference on top of the other decorators" in broken.error
    assert broken.line is not None


LOCAL = """
    def make():
        @{above}
        @skipper.inference
        def root(x: float) -> float: return x ** 0.5
        return root
    guarded = make()
"""


@pytest.mark.parametrize("above", ["guard", "functools.cache", "functools.partial"])
@pytest.mark.parametrize("wraps", ["pass", "@functools.wraps(function)"])
def test_a_decorator_above_ours_is_refused_within_another_function_too(
    survey: Callable[..., Report], wraps: str, above: str
) -> None:
    """coleifer/huey#429"""
    text = dedent(GUARD).format(wraps=wraps) + dedent(LOCAL).format(above=above)
    (broken,) = read(survey({"mine.py": text})).broken
    assert "put @skipper.inference on top of the other decorators" in broken.error
    assert broken.line is not None


def test_a_function_that_another_one_makes_goes_by_any_name(survey: Callable[..., Report]) -> None:
    text = dedent(GUARD).format(wraps="pass") + dedent(LOCAL).format(above="(lambda f: f)")
    text += "also_guarded = guard(guarded)"
    assert [spec.name for spec in read(survey({"mine.py": text})).specs] == ["mine.root"]


@pytest.mark.parametrize(
    "text",
    [
        "@lambda f: other\n@skipper.data\ndef f(): ...",
        "@skipper.data\ndef f(): ...\nf = other",
        "@skipper.data\ndef f(): ...\nfrom functions.elsewhere import g as f",
    ],
)
def test_a_name_that_means_another_function_by_the_end_is_refused(
    survey: Callable[..., Report], text: str
) -> None:
    """coleifer/huey#429: callers would get what the name meant before."""
    before = "import skipper\n@skipper.data\ndef other(): ...\n"
    elsewhere = "import skipper\n@skipper.data\ndef g(): ..."
    found = survey({"mine.py": before + text, "elsewhere.py": elsewhere})
    (source,) = [each for each in found.sources if each.name == "mine"]
    report = read(Report(sources=(source,)))
    assert [each.function for each in report.broken] == ["mine.f"]
    assert [spec.name for spec in report.specs] == ["mine.other"]


def test_a_decorator_above_ours_that_returns_what_it_got_is_none_of_our_business(
    survey: Callable[..., Report],
) -> None:
    text = "import skipper\nknown = []\ndef note(f):\n  known.append(f)\n  return f\n"
    text += "@note\n@skipper.data\ndef f(): ..."
    assert [spec.name for spec in read(survey({"mine.py": text})).specs] == ["mine.f"]


def test_a_function_of_a_pool_that_the_project_lacks_is_reported_with_line_and_choice(
    survey: Callable[..., Report],
) -> None:
    text = "import skipper\n@skipper.data\ndef f(): ...\n@skipper.data(pool='big')\ndef g(): ..."
    found = survey({"mine.py": text})
    assert only(found).pools is None  # every host reads it, so that one does
    (broken,) = read(found, pools=("cpu", "gpu")).broken
    assert (broken.line, broken.error) == (4, "DefinitionError: pool='big': write 'cpu' or 'gpu'.")
    specs = read(found, pools=("cpu", "big")).specs
    assert {spec.name: spec.pool for spec in specs} == {"mine.f": "cpu", "mine.g": "big"}


def test_a_package_serves_what_its_own_modules_define_under_its_name(
    survey: Callable[..., Report], project: Project
) -> None:
    (project.functions_dir / "boston.py").write_text(dedent(GOOD))
    report = survey(
        {
            "house/__init__.py": """
                    import skipper
                    from functions.boston import rows
                    from . import helper
                    from .price import predict
                    @skipper.data
                    def prepare(): return helper.N
                """,
            "house/helper.py": "N = 3",
            "house/price.py": "import skipper\n@skipper.inference\ndef predict(): ...",
        }
    )
    house = next(s for s in report.sources if s.name == "house")
    texts_now(project, house)
    assert {f.name for f in loader.load(house)} == {"house.prepare", "house.predict"}


def test_a_function_of_another_file_stays_the_other_files(
    survey: Callable[..., Report], project: Project
) -> None:
    report = survey(
        {
            "first.py": "import skipper\n@skipper.data\ndef one(): ...",
            "second.py": """
                import skipper
                from functions.first import one
                @skipper.data
                def two(): return one()
            """,
        }
    )
    second = next(s for s in report.sources if s.name == "second")
    texts_now(project, second)
    assert [f.name for f in loader.load(second)] == ["second.two"]


def test_a_file_that_asks_for_no_future_gets_none_of_ours(survey: Callable[..., Report]) -> None:
    """Annotations are what the file's own ``__future__`` makes of them."""
    text = "import skipper\n@skipper.data\ndef f(x: int): ...\nassert not isinstance(f.target"
    assert read(survey({"mine.py": text + ".__annotations__['x'], str)"})).broken == ()


def test_a_failed_load_names_the_file_even_where_a_helper_raised(
    survey: Callable[..., Report],
) -> None:
    report = read(
        survey({"mine.py": "x = 1\nfrom functions import _helper", "_helper.py": "\n\n1 / 0"})
    )
    (broken,) = report.broken
    assert (Path(broken.file).name, broken.line) == ("mine.py", 2)
    assert "_helper.py" in broken.traceback


def test_a_file_that_is_gone_is_reported(survey: Callable[..., Report]) -> None:
    report = survey({"mine.py": GOOD})
    only(report).file.unlink()
    with pytest.raises(FileNotFoundError):
        read(report)
