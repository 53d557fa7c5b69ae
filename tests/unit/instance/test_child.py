import subprocess
import sys

FORKS = """
import os, signal, socket
from skipper.instance.child import _Forks
from skipper.instance.link import HostLink

def ignores(signum, frame):
    raise KeyboardInterrupt

ours, theirs = socket.socketpair()
signal.signal(signal.SIGTERM, ignores)
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))  # runs first
_Forks(HostLink(ours)).watch()
child = os.fork()
if not child:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
theirs.settimeout(10.0)
ours.send(b"still here")
print(theirs.recv(64).decode())
"""


def test_a_fork_is_ended_by_a_signal_that_came_as_it_was_made_and_leaves_the_link_alone() -> None:
    """``multiprocessing.Pool`` ends workers that way, and waits for them."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == ["-15", "False", "still here"]
