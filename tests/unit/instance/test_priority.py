import json
import os
import subprocess
import sys

import pytest

WATCHED = """
import json, os, sys, threading
from skipper.instance.priority import GivingWay

MAY_RETURN, really = json.loads(sys.argv[1]), os.setpriority
values = {}

def set_priority(which, thread, nice):
    thread = thread or threading.get_native_id()
    if nice < values.get(thread, 0) and not MAY_RETURN:
        raise PermissionError
    values[thread] = nice

os.setpriority, os.getpriority = set_priority, lambda *_: 0
giving_way, stop = GivingWay(), threading.Event()
giving_way.begin()
seen = [values.get(os.getpid(), 0)]
late = threading.Thread(target=stop.wait)
late.start()
values[late.native_id] = seen[0]  # a thread begins with the nice value of the one that starts it
giving_way.end()
seen += [values.get(os.getpid(), 0), values[late.native_id]]
stop.set()
print(json.dumps(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a nice value is a thread's on Linux alone")
@pytest.mark.parametrize(("may_return", "lowered"), [(True, 10), (False, 0)])
def test_who_gives_way_has_its_priority_back_with_the_threads_that_it_has_started_meanwhile(
    may_return: bool, lowered: int
) -> None:
    """Where it may not take it back, it never gives it away: it would serve slowly for ever."""
    call = [sys.executable, "-c", WATCHED, json.dumps(may_return)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [lowered, 0, 0]


@pytest.mark.skipif(not hasattr(os, "nice"), reason="this system has no nice values")
def test_a_task_gives_way_for_good() -> None:
    script = (
        "import os; from skipper.instance import priority; priority.lower(7); print(os.nice(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == os.nice(0) + 7
