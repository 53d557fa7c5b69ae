"""Which parts of a skops file may be made: decided part by part, before any of them is.

A file is a tree of nodes; each names a class or function, and its *loader*, which says what skops
does with that: fetch it, make an instance without calling its ``__init__`` and hand it a state, or
call it with what the file holds. What may be fetched is not what may be called, so a list of names,
which is all that ``skops.io.load(trusted=)`` takes, is not enough. The rules, and why:

- **Instances** (``__new__``, then ``__setstate__`` or ``__dict__``) may be of any class that
  scikit-learn defines, and of the packages of others in :data:`_CLASSES`: none of them does more
  than keep the state. Not of ``scipy.stats``, whose distributions run a text of their state.
- **Functions** are fetched when the file is loaded and called when the model is used, with the
  rows of a caller: those that compute (:data:`_FUNCTIONS`), none that read or write files.
- **What is called** with contents of the file is: containers and plain values of Python, scalars of
  NumPy, losses of scikit-learn.
- **The project's own** classes and functions are trusted, as all its code is: what a file names is
  what the project's modules define now (:func:`skipper.from_project`).

Trees and neighbours are NumPy arrays that scikit-learn does not check: a forged file can crash the
instance that predicts with it. So whoever may have a version imported may end instances; no more.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import skipper

Node = dict[str, Any]

_CLASSES = (
    "sklearn.",
    "scipy.interpolate.",
    "scipy.sparse.",
    "scipy.spatial.",
    "xgboost.core.",
    "xgboost.sklearn.",
    "lightgbm.basic.",
    "lightgbm.sklearn.",
)
_FUNCTIONS = (
    "sklearn.",
    "scipy._lib.array_api_compat.",
    "scipy.fft.",
    "scipy.linalg.",
    "scipy.signal.",
    "scipy.spatial.",
    "scipy.special.",
    "scipy.stats.",
)
_NEVER = ("datasets", "externals", "tests", "_testing", "conftest", "__main__", "experimental")
"""Parts of names of modules that read files, are others' or are there for tests alone."""
_OF_NUMPY = ("numpy", "numpy.linalg", "numpy.fft", "numpy.ma")
_ON_FILES = frozenset(
    {"fromfile", "fromregex", "genfromtxt", "loadtxt", "save", "savetxt", "savez"}
    | {"savez_compressed", "apply_along_axis", "apply_over_axes", "fromfunction", "piecewise"}
)
"""NumPy's array functions that touch files, or call what they are given."""
_ARRAY_FUNCTION = type(np.mean)
"""NumPy's functions of arrays, ufuncs apart."""

_PLAIN = frozenset({"str", "int", "float", "bool", "bytes", "complex", "NoneType", "object"})
_CONTAINERS = frozenset({"list", "set", "frozenset", "tuple", "dict"})
_MAPPINGS = frozenset({"OrderedDict", "Counter"})
_TIMES = frozenset({"date", "datetime", "time", "timedelta", "timezone"})


class Trust:
    """Looks at the nodes of one file. ``refused`` says of each that is not trusted what it is."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def look_at(self, schema: object) -> None:
        """Go through a part of a schema: whatever may be a node, wherever it stands."""
        waiting = [schema]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                waiting += part.values()
                if "__loader__" in part:
                    self._judge(part)
            elif isinstance(part, list):
                waiting += part

    def _judge(self, node: Node) -> None:
        loader, module, name = (node.get(key) for key in ("__loader__", "__module__", "__class__"))
        if not all(isinstance(each, str) for each in (loader, module, name)):
            self.refused.add("a part has no name")
            return
        rule = _RULES.get(str(loader))
        if rule is None:
            self.refused.add(f"there is no rule for {module}.{name} ({loader})")
            return
        try:
            is_trusted = rule(str(module), str(name), node)
        except skipper.FormatError as error:
            self.refused.add(str(error))
            return
        if not is_trusted:
            self.refused.add(f"{module}.{name} {_why(str(loader))}")


def _why(loader: str) -> str:
    if loader in ("FunctionNode", "TypeNode", "PartialNode", "MethodNode"):
        return (
            "is no function of scikit-learn's, NumPy's or SciPy's that only computes, and none "
            "that stands at the top level of a file of this project"
        )
    return (
        "is of a class that is none of scikit-learn's, NumPy's or SciPy's that is only data, and "
        "none that stands at the top level of a file of this project; keep what you need of it"
    )


# --- the rules: what a loader is given, and whether it may be ------------------------------------


def _always(module: str, name: str, node: Node) -> bool:
    """Of loaders that make one and the same type whatever the file names."""
    return True


def _is_instance(module: str, name: str, node: Node) -> bool:
    return _is_library_class(module, name) or _is_own_class(module, name)


def _is_called(module: str, name: str, node: Node) -> bool:
    """What is called with any arguments of the file: values of time, and the project's classes."""
    return (module == "datetime" and name in _TIMES) or _is_own_class(module, name)


def _is_sequence(module: str, name: str, node: Node) -> bool:
    return (module == "builtins" and name in _CONTAINERS) or _is_own_class(module, name)


def _is_mapping(module: str, name: str, node: Node) -> bool:
    """A mapping calls the types of its keys with their texts."""
    keys = node.get("key_types")
    types = keys.get("content") if isinstance(keys, dict) else None
    return (
        isinstance(types, list)
        and all(isinstance(each, dict) and _is_key_type(each) for each in types)
        and (
            (module == "builtins" and name == "dict")
            or (module == "collections" and name in _MAPPINGS)
            or (module, name) == ("sklearn.utils._bunch", "Bunch")
            or _is_own_class(module, name)
        )
    )


def _is_key_type(node: Node) -> bool:
    module, name = node.get("__module__"), node.get("__class__")
    return node.get("__loader__") == "TypeNode" and (
        (module == "builtins" and name in _PLAIN) or _is_scalar(module, name)
    )


def _is_defaultdict(module: str, name: str, node: Node) -> bool:
    return (module, name) == ("collections", "defaultdict")


def _is_array(module: str, name: str, node: Node) -> bool:
    return (module, name) == ("numpy", "ndarray") or _is_scalar(module, name)


def _is_scalar(module: object, name: object) -> bool:
    found = getattr(np, name, None) if module == "numpy" and isinstance(name, str) else None
    return isinstance(found, type) and issubclass(found, np.generic)


def _is_sparse(module: str, name: str, node: Node) -> bool:
    return module.startswith("scipy.sparse.") and _is_library_class(module, name)


def _is_loss(module: str, name: str, node: Node) -> bool:
    is_theirs = module.startswith(("sklearn._loss.", "sklearn.linear_model."))
    return is_theirs and _is_library_class(module, name)


def _is_fetched_class(module: str, name: str, node: Node) -> bool:
    """Classes, and functions that are built in; the latter are called when the model is used."""
    if module in ("builtins", "collections"):
        return name in (_PLAIN | _CONTAINERS if module == "builtins" else _MAPPINGS)
    if module in ("math", "numpy"):
        return module == "math" or _is_scalar(module, name) or name == "ndarray"
    return _is_instance(module, name, node) or _is_function(module, name, node)


def _is_function(module: str, name: str, node: Node) -> bool:
    if module in _OF_NUMPY:
        found = getattr(importlib.import_module(module), name, None)
        is_array_function = isinstance(found, _ARRAY_FUNCTION) and name not in _ON_FILES
        return isinstance(found, np.ufunc) or is_array_function
    if f"{module}.".startswith(_FUNCTIONS):
        found = _found(module, name)
        is_its_own = getattr(found, "__module__", None) == module and not isinstance(found, type)
        return isinstance(found, np.ufunc) or (callable(found) and is_its_own)
    return _is_own(module, name)


def _is_method(module: str, name: str, node: Node) -> bool:
    """It is fetched from an instance, which is a node of its own."""
    content = node.get("content")
    method = content.get("func") if isinstance(content, dict) else None
    if not isinstance(method, str) or method.startswith("_"):
        return False
    return _is_library_class(module, name) or _is_own_class(module, name)


def _is_operator(module: str, name: str, node: Node) -> bool:
    return (module, name) in {("operator", "itemgetter"), ("operator", "attrgetter")}


_RULES: dict[str, Callable[[str, str, Node], bool]] = {
    "BytearrayNode": _always,
    "BytesNode": _always,
    "ConstructorFromReduceNode": _is_called,
    "DTypeNode": _always,
    "DefaultDictNode": _is_defaultdict,
    "DictNode": _is_mapping,
    "FunctionNode": _is_function,
    "JsonNode": _always,
    "ListNode": _is_sequence,
    "LossNode": _is_loss,
    "MaskedArrayNode": _always,
    "MethodNode": _is_method,
    "NdArrayNode": _is_array,
    "ObjectNode": _is_instance,
    "OperatorFuncNode": _is_operator,
    "PartialNode": _always,
    "RandomGeneratorNode": lambda module, name, _: module.startswith("numpy.random."),
    "RandomStateNode": lambda module, name, _: (
        (name == "RandomState") and module == "numpy.random.mtrand"
    ),
    "SetNode": _is_sequence,
    "SliceNode": _always,
    "SparseMatrixNode": _is_sparse,
    "TreeNode": _always,
    "TupleNode": _is_sequence,
    "TypeNode": _is_fetched_class,
}


# --- what a name stands for ----------------------------------------------------------------------


def _is_library_class(module: str, name: str) -> bool:
    if not f"{module}.".startswith(_CLASSES):
        return False
    found = _found(module, name)
    return isinstance(found, type) and found.__module__ == module


def _is_own_class(module: str, name: str) -> bool:
    return _is_own(module, name) and isinstance(skipper.from_project(module, name), type)


def _is_own(module: str, name: str) -> bool:
    """Raises FormatError, which tells why, for a module of nobody that is known here."""
    if module.partition(".")[0] in _LIBRARIES:
        return False
    return skipper.from_project(module, name) is not None


_LIBRARIES = frozenset({"builtins", "collections", "numpy", "scipy", "sklearn", "functools"})


@functools.cache
def _found(module: str, name: str) -> object:
    """What a module of a library has under a name; None where it has none, or is not asked."""
    if set(module.split(".")) & {*_NEVER}:
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
