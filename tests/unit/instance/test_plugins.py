import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from skipper.errors import DefinitionError
from skipper.hookspecs import Project
from skipper.instance import faults
from skipper.instance.faults import MAX_CAUSES, class_of, describe, shown, user_traceback
from skipper.instance.plugins import Plugins
from skipper.settings.redaction import Redactor
from skipper.spec import BrokenFile


@pytest.fixture(autouse=True)
def imported(tmp_path: Path) -> Iterator[None]:
    """Forget the modules that a test's plugins have become."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def plugins(tmp_path: Path) -> Callable[..., Plugins]:
    """Loads a project with these plugin files."""

    def load(**files: str) -> Plugins:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
        return Plugins(tmp_path)

    return load


def sources(plugins: Plugins, folder: Path) -> list[str]:
    project = Project(folder=folder, functions_dir=folder / "functions", plugins_dir=folder)
    return [s.name for found in plugins.hook.skipper_sources(project=project) for s in found]


def test_a_projects_plugin_is_called_before_the_built_in_one(
    plugins: Callable[..., Plugins], tmp_path: Path
) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "plain.py").touch()
    loaded = plugins(
        mine="""
        from skipper.hookspecs import Source, hook
        @hook
        def skipper_sources(project):
            yield Source(name="made", file=project.folder / "x.py", module="x", origin="mine")
    """
    )
    assert loaded.broken == []
    assert "mine" in loaded.names
    found = sources(loaded, tmp_path)
    assert (found[0], found[-1]) == ("made", "plain")


def test_the_first_answer_wins_and_a_projects_plugin_is_first(
    plugins: Callable[..., Plugins], tmp_path: Path
) -> None:
    loaded = plugins(
        mine="""
        import skipper
        @skipper.hook
        def skipper_load_model(format, folder):
            return "ours" if format == "keras" else None
    """
    )
    assert loaded.hook.skipper_load_model(format="keras", folder=tmp_path) == "ours"
    assert loaded.hook.skipper_load_model(format="no such format", folder=tmp_path) is None


def test_without_plugins_of_its_own_a_project_has_the_installed_and_the_built_in(
    tmp_path: Path,
) -> None:
    loaded = Plugins(tmp_path / "none")
    assert "functions" in loaded.names
    assert loaded.broken == []


def test_a_broken_plugin_is_reported_and_the_others_work(
    plugins: Callable[..., Plugins], tmp_path: Path
) -> None:
    loaded = plugins(
        a_broken="x = 1\nnp.array([1])",
        b_exits="import sys\nsys.exit('no')",
        c_unfinished="def f(:\n",
        d_good="""
            import skipper
            @skipper.hook
            def skipper_libraries(imports): return ["numpy"]
        """,
    )
    assert [(Path(item.file).stem, item.line) for item in loaded.broken] == [
        ("a_broken", 2),
        ("b_exits", 2),
        ("c_unfinished", 1),
    ]
    assert loaded.broken[0].hint == "add `import numpy as np`"
    assert loaded.broken[1].error == "SystemExit: it called sys.exit('no')"
    assert ["numpy"] in loaded.hook.skipper_libraries(imports=frozenset())
    assert not {"a_broken", "b_exits", "c_unfinished"} & set(loaded.names)
    assert "a_broken" not in sys.modules


@pytest.mark.parametrize(
    ("name", "meant"),
    [("skipper_save_models", "skipper_save_model"), ("skipper_library", "skipper_libraries")],
)
def test_a_misspelt_hook_is_named_with_the_one_that_was_meant(
    plugins: Callable[..., Plugins], name: str, meant: str
) -> None:
    loaded = plugins(wrong=f"import skipper\n@skipper.hook\ndef {name}(value): ...")
    assert name in loaded.broken[0].error
    assert repr(meant) in loaded.broken[0].error


def test_a_hook_that_takes_what_it_is_not_given_is_reported(
    plugins: Callable[..., Plugins],
) -> None:
    loaded = plugins(wrong="import skipper\n@skipper.hook\ndef skipper_libraries(nothing): ...")
    assert "nothing" in loaded.broken[0].error


def test_a_hook_may_not_wrap_those_of_others(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(
        wraps="""
        from skipper.hookspecs import hook
        @hook(wrapper=True)
        def skipper_libraries(imports): return (yield)
    """
    )
    assert "skipper_libraries wraps" in loaded.broken[0].error


def test_each_turn_is_announced(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import skipper\n@skipper.hook\ndef skipper_instance_started(): ..."
    )
    turns: list[tuple[str, str]] = []
    loaded = Plugins(tmp_path, on_turn=lambda name, _, hook: turns.append((name, hook)))
    assert turns[-2:] == [("mine", ""), ("", "")]
    loaded.call("skipper_instance_started", lambda _: None, threads=1)
    assert ("mine", "skipper_instance_started") in turns
    assert turns[-1] == ("", "")


def test_a_plugin_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError")
    loaded = Plugins(tmp_path, without=["mine"])
    assert loaded.broken == []
    assert "mine" not in loaded.names


def test_names_that_only_look_like_hooks_are_left_alone(plugins: Callable[..., Plugins]) -> None:
    assert plugins(fine="skipper_version = '1'\ndef skipper_helper(): ...").broken == []


def test_a_helper_module_is_not_a_plugin(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(_helper="raise RuntimeError")
    assert loaded.broken == []
    assert "_helper" not in loaded.names


def test_a_plugin_cannot_take_the_name_of_a_loaded_module(plugins: Callable[..., Plugins]) -> None:
    loaded = plugins(json="")
    assert "rename this plugin's file" in loaded.broken[0].error
    assert sys.modules["json"].__name__ == "json"
    assert hasattr(sys.modules["json"], "loads")


# --- what is wrong with a file -------------------------------------------------------------


def failing(tmp_path: Path, text: str) -> BrokenFile:
    """What is found wrong with a file with this text once it has run."""
    file = tmp_path / "functions" / "mine.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(dedent(text))
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), {"__name__": "mine"})
    except BaseException as error:  # noqa: BLE001 - a file may raise anything
        return describe(error, file)
    raise AssertionError("it ran")


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("x = 1\n\n1 / 0", 3, "ZeroDivisionError: division by zero"),
        ("x = (", 1, "SyntaxError: '(' was never closed (mine.py, line 1)"),
        ("def f():\n  import json\n  json.loads('{')\nf()", 3, None),
        ("raise SystemExit", 1, "SystemExit: it called sys.exit(None)"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
        ("class E(Exception):\n  def __str__(self): return 1 / 0\nraise E", 3, None),
    ],
)
def test_a_file_is_described_with_the_line_of_its_own_that_failed(
    tmp_path: Path, text: str, line: int, error: str | None
) -> None:
    broken = failing(tmp_path, text)
    assert broken.line == line
    assert broken.file == str(tmp_path / "functions" / "mine.py")
    assert error is None or broken.error == error


def test_a_definition_error_has_its_own_place(tmp_path: Path) -> None:
    error = DefinitionError("no schema", file="functions/other.py", line=12)
    broken = describe(error, tmp_path / "mine.py")
    assert (broken.file, broken.line) == ("functions/other.py", 12)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("np.array([])", "add `import numpy as np`"),
        ("tf.constant(1)", "add `import tensorflow as tf`"),
        ("nonsense", ""),
        (
            "import no_such_package.inner",
            (
                "install the package that provides `no_such_package` into the environment "
                "Skipper runs in"
            ),
        ),
    ],
)
def test_a_common_mistake_comes_with_its_remedy(tmp_path: Path, text: str, hint: str) -> None:
    assert failing(tmp_path, text).hint == hint


def test_a_traceback_shows_the_users_frames_and_none_of_ours(tmp_path: Path) -> None:
    broken = failing(tmp_path, "import skipper\n@skipper.data(timeout='soon')\ndef f(): ...")
    assert 'mine.py", line 2' in broken.traceback
    assert "'soon' is not a time" in broken.traceback
    assert "runtime/skipper" not in broken.traceback


def test_the_cause_of_an_error_is_shown_with_it(tmp_path: Path) -> None:
    text = "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  raise ValueError('odd') from e"
    broken = failing(tmp_path, text)
    assert broken.line == 4
    assert broken.traceback.index("ZeroDivisionError") < broken.traceback.index("ValueError: odd")


class SilentError(Exception):
    """Cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_a_text_is_shown_all_the_same() -> None:
    assert shown(SilentError()) == "SilentError: <its text cannot be shown: RuntimeError>"
    assert "SilentError" in user_traceback(SilentError())


@pytest.mark.parametrize("error", [ValueError("x" * 10_000), SystemExit("x" * 10_000)])
def test_what_is_shown_of_an_error_is_bounded(error: BaseException) -> None:
    assert len(shown(error)) <= 2000
    assert len(user_traceback(error)) < 8100


def test_deep_recursion_is_shown_in_bounded_time_and_space() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as caught:
        deeper()
    assert len(user_traceback(caught.value)) < 8100
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 500


def test_of_very_many_causes_the_last_are_shown_in_bounded_time() -> None:
    cause: BaseException | None = None
    for number in range(100_000):
        error = ValueError(f"cause {number}")
        error.__cause__, cause = cause, error
    end = RuntimeError("the end")
    end.__cause__ = cause
    text = user_traceback(end, limit=100_000)
    assert "cause 99999" in text
    assert text.count("direct cause") == MAX_CAUSES


def test_causes_that_lead_in_a_circle_are_shown_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert user_traceback(first).count("second") == 1


class SilentCodeError(SystemExit):
    def __init__(self) -> None:
        super().__init__(SilentRepr())


class SilentRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_an_exit_code_without_words_is_shown_all_the_same() -> None:
    assert "cannot be shown: RuntimeError" in shown(SilentCodeError())


def test_the_name_of_a_class_is_bounded_too() -> None:
    made = type("E" * 10_000_000, (Exception,), {})()
    assert len(class_of(made)) == 200
    assert len(shown(made)) < 2100


def test_root_loads_no_plugin_that_others_may_write(
    plugins: Callable[..., Plugins], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exposed.py").touch()
    (tmp_path / "exposed.py").chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    loaded = plugins(exposed="raise SystemExit('it was run')", sound="")
    assert [Path(each.file).name for each in loaded.broken] == ["exposed.py"]
    assert "can be written by any user of this machine" in loaded.broken[0].error
    assert "sound" in loaded.names


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("no '/srv/houses/data/a.csv'", "no 'data/a.csv'"),
        ("no /srv/houses", "no ."),
        ("/srv/houses: /srv/houses/a, file:///srv/houses/b", ".: a, file://b"),
        ("/srv/houses-2/a and /srv/houses2", "/srv/houses-2/a and /srv/houses2"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_raised_names_files_by_their_path_in_the_project(
    monkeypatch: pytest.MonkeyPatch, text: str, shown_as: str
) -> None:
    monkeypatch.setattr(faults, "_home", [])
    faults.at_home_in(Path("/srv/houses"))
    assert shown(ValueError(text)) == f"ValueError: {shown_as}"


@pytest.mark.parametrize("place", [0, 1990, 3000])
def test_what_is_raised_is_told_without_secrets_wherever_it_is_cut(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_redactors", [])
    secret = "sesame" * 4
    faults.keep_back(Redactor([secret]))
    try:
        raise KeyError("." * place + secret)
    except KeyError as error:
        told = shown(error) + faults.user_traceback(error)
    assert "same" not in told
    assert len(shown(KeyError("." * 5000))) == 2000


def test_a_projects_plugin_that_has_an_installed_ones_name_is_told_to_take_another(
    tmp_path: Path,
) -> None:
    (tmp_path / "webhooks.py").write_text("import skipper")

    loaded = Plugins(tmp_path)

    assert "an installed plugin is named 'webhooks'" in loaded.broken[0].error
    assert "webhooks" in loaded.names
