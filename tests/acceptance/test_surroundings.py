"""What functions find around them: the same in every process, for every call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.tree import Tree, lent, project, until

LOOK = """
import locale, os, signal, sys, warnings
import skipper

def look() -> dict:
    signals = {}
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGCHLD):
        signals[number.name] = str(signal.getsignal(number))
    mask = os.umask(0o022)
    os.umask(mask)
    main = sys.modules["__main__"]
    threads = [name for name in os.environ if name.endswith(("THREADS", "MAX_CPU_COUNT"))]
    return {
        "argv": sys.argv, "cwd": os.getcwd(), "signals": signals, "mask": mask,
        "main": [main.__name__, getattr(main, "__file__", None), str(main.__spec__)],
        "environ": {k: v for k, v in os.environ.items() if k not in threads},
        "locale": locale.setlocale(locale.LC_ALL), "path": sys.path, "flags": str(sys.flags),
    }

AT_IMPORT = look()

def both() -> dict:
    return {"pid": os.getpid(), "now": look(), "at_import": AT_IMPORT}

def spoil() -> None:
    os.chdir("/")
    os.environ["SPOILT"] = "1"
    os.umask(0o077)
    warnings.simplefilter("error")


"""
FUNCTIONS = """
@skipper.data(pool="{pool}", recycle=2)
def direct{mark}() -> dict:
    return both()

@skipper.training(pool="{pool}")
def task{mark}(bad: bool = False) -> dict:
    if bad:
        spoil()
    return both()

@skipper.data(pool="{pool}")
async def loop{mark}(bad: bool = False) -> dict:
    if bad:
        spoil()
    return both()
"""
TOML = '[pools.cpu]\n[pools.spawned]\nstart = "spawn"\n'


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    text = LOOK
    text += FUNCTIONS.format(pool="cpu", mark="")
    text += FUNCTIONS.format(pool="spawned", mark="_spawned")
    folder = project(tmp_path_factory.mktemp("around"), TOML, see=text)
    with lent(Tree(folder, "--only", "broker,gateway,scheduler,pool:cpu,pool:spawned")) as tree:
        yield tree.ready()


def seen(tree: Tree, name: str, **body: bool) -> dict[str, object]:
    """What a function finds, by its file's import and by now."""
    if name.startswith("task"):
        found = tree.result(tree.submit(f"see.{name}", body))
    else:
        found = tree.value(f"see.{name}", body)
    return {"now": found["now"], "at_import": found["at_import"], "pid": found["pid"]}


def test_every_start_and_every_lane_shows_the_same(tree: Tree) -> None:
    names = [f"{kind}{mark}" for kind in ("direct", "task", "loop") for mark in ("", "_spawned")]
    first = seen(tree, "direct")
    recycled: list[dict[str, object]] = []

    def is_recycled() -> bool:
        recycled.append(seen(tree, "direct"))
        return recycled[-1]["pid"] != first["pid"]

    until(is_recycled, what="the next process")
    all_ = [*recycled, *(seen(tree, name) for name in names)]
    for each in all_:
        for when in ("now", "at_import"):
            assert each[when] == first["at_import"]
    assert first["at_import"]["argv"] == [str(tree.folder / "functions/see.py")]  # type: ignore[index]
    assert first["at_import"]["cwd"] == str(tree.folder)  # type: ignore[index]


@pytest.mark.parametrize("name", ["task", "task_spawned", "loop", "loop_spawned"])
def test_what_one_run_changes_does_not_reach_the_next(tree: Tree, name: str) -> None:
    before = seen(tree, name)
    seen(tree, name, bad=True)
    after = seen(tree, name)
    if name.startswith("loop"):  # of direct calls it is looked at in development alone
        after["now"]["mask"] = before["now"]["mask"]  # type: ignore[index]
    assert after["now"] == before["now"]
