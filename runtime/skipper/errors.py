"""Every error that Skipper itself raises.

::

    SkipperError
    ├── DefinitionError (TypeError)         a function file defines what Skipper cannot serve
    ├── SettingsError (ValueError)          skipper.toml, the environment or a flag is wrong
    ├── StartError (RuntimeError)           a part of the tree cannot start; carries an exit code
    ├── NotConnectedError (RuntimeError)    f.remote() without a runtime to ask
    ├── FormatError (ValueError)            no plugin can save or load this model
    ├── TooLargeError (ValueError)          a function returned or sent more than is accepted
    ├── DeploymentError (ValueError)        these versions of a model cannot serve in this way
    │   ├── UnfitError                      one of them cannot serve at all
    │   └── KeptOutError                    its model's gate keeps one of them out
    ├── ConflictError (RuntimeError)        somebody else has changed it meanwhile
    ├── NotFoundError (LookupError)         no such function, task or model
    ├── UnavailableError (ConnectionError)  the runtime, or the function in it, cannot answer now
    │   ├── FullError                       as many tasks wait, or is stored, as may be
    │   └── NoRoomError                     the disk has no room for it
    └── CallError                           a call or a task ended without a value
        ├── InvalidInputError (ValueError)  the input does not match the function's schema
        ├── FunctionError                   the function raised
        ├── ItemError (ValueError)          one item of a batch failed; returned in its place
        ├── InstanceDiedError               its process died while it ran the call
        ├── DeadlineError (TimeoutError)    the call or the task passed its deadline
        └── CancelledError                  somebody cancelled it

    Cancelled (BaseException)               raised inside a function whose task was cancelled

What a user's function raises is data (``CallError.problem``), never one of these classes.
"""

from __future__ import annotations

from typing import Any


class SkipperError(Exception):
    """Something in Skipper went wrong.

    ``problem`` is the gateway's problem document (RFC 9457); empty where none came from a gateway.
    ``item`` is the index of the item that it is of, where a map raised it.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.problem: dict[str, Any] = {}
        self.item: int | None = None


class DefinitionError(SkipperError, TypeError):
    """A function file defines something that Skipper cannot serve.

    ``file`` and ``line`` are where; the loader finds them where the raiser cannot know.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


class SettingsError(SkipperError, ValueError):
    """A setting is wrong."""


class StartError(SkipperError, RuntimeError):
    """A part of the tree cannot start. ``code``, one of ``skipper.exits``, is its process's end."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class NotConnectedError(SkipperError, RuntimeError):
    """No runtime to ask: call skipper.connect(url) first, or call the function directly."""


class FormatError(SkipperError, ValueError):
    """No plugin can save or load this model."""


class TooLargeError(SkipperError, ValueError):
    """A function returned, or reported as its progress, more at once than is accepted."""


class DeploymentError(SkipperError, ValueError):
    """These versions of a model cannot serve in this way."""


class UnfitError(DeploymentError):
    """This version of a model cannot be loaded, or has failed when it was tried."""


class KeptOutError(DeploymentError):
    """The gate of its model keeps this version out."""


class ConflictError(SkipperError, RuntimeError):
    """Somebody else has changed it meanwhile: look at it again."""


class NotFoundError(SkipperError, LookupError):
    """There is no such function, task or model."""


class UnavailableError(SkipperError, ConnectionError):
    """The runtime cannot answer now; try again."""


class FullError(UnavailableError):
    """As many tasks wait, or as much is stored, as may be."""


class NoRoomError(UnavailableError):
    """The disk has no room for it."""


class CallError(SkipperError):
    """A call ended without a value. ``problem``, a problem document (RFC 9457), has the reason."""

    def __init__(self, message: str | None = None, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}


class InvalidInputError(CallError, ValueError):
    """The input does not match what the function declares."""


class FunctionError(CallError):
    """The function raised an exception."""


class ItemError(CallError, ValueError):
    """This item cannot be answered.

    A batch function returns one in the place of an item that failed; the others are answered.
    """


class InstanceDiedError(CallError):
    """The process that ran the call died."""


class DeadlineError(CallError, TimeoutError):
    """The call passed its deadline."""


class CancelledError(CallError):
    """The task was cancelled."""


class Cancelled(BaseException):
    """Raised inside a running function whose task was cancelled.

    A ``BaseException``, so that ``except Exception`` in the function does not swallow it;
    ``finally`` blocks run.
    """
