"""TensorFlow for Skipper: Keras models in the store, libraries in templates, epochs as progress.

Importing this module imports neither Keras nor TensorFlow: every instance loads it, and most of
them need neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import skipper

FORMAT = skipper.Format(
    name="keras", libraries={"keras": "keras", "tensorflow": "tensorflow"}, extra="tensorflow"
)
_LIBRARIES = frozenset({"keras", "tensorflow"})
_FILE = "model.keras"
_STATE = "state.npz"
_OWN = "project.json"
"""Which of the project's own the model names: ``{"Scale": ["functions.net", "Scale"]}``."""
_MADE_BY_USE = frozenset(
    {"predict_function", "stop_evaluating", "stop_predicting", "test_function", "train_function"}
)
"""Attributes that Keras sets whenever a model is used, whatever they were before."""
_SIZES = (1, 32)
"""What a model is tried with, one after the other, where it takes arrays of any size."""


@skipper.hook
def skipper_libraries(imports: frozenset[str]) -> Collection[str]:
    """Name both for a file that imports either: Keras computes on TensorFlow."""
    packages = {name.partition(".")[0] for name in imports}
    return _LIBRARIES if packages & _LIBRARIES else ()


@skipper.hook
def skipper_environment(imports: frozenset[str]) -> dict[str, str]:
    """Keep TensorFlow's greetings out of the log, and its sums the same on every start."""
    if not skipper_libraries(imports):
        return {}
    return {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "KERAS_BACKEND": "tensorflow",
    }


@skipper.hook
def skipper_instance_started(threads: int) -> None:
    """Hold TensorFlow to its share of the machine, and renew the random state that a fork copied.

    TensorFlow reads the variables when it first computes. A template never computes, so they count
    in its forks as they do in a fresh process that will import TensorFlow later. Memory of a GPU is
    taken as it is needed, since several instances may share the device.
    """
    _set_threads(threads)
    seed = secrets.randbits(32)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)  # TensorFlow's and NumPy's too
    elif "tensorflow" in sys.modules:
        sys.modules["tensorflow"].random.set_seed(seed)


@skipper.hook
def skipper_threads_changed(threads: int) -> int | None:
    """Have TensorFlow compute on so many threads, unless it has computed already.

    It makes its threads when it first computes, and keeps them: then their number is returned.
    """
    config = getattr(sys.modules.get("tensorflow"), "config", None)
    if config is not None:
        try:
            config.threading.set_intra_op_parallelism_threads(threads)
            config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            return int(os.environ["TF_NUM_INTRAOP_THREADS"])  # noqa: TID251 - as below
    _set_threads(threads)
    return None


def _set_threads(threads: int) -> None:
    os.environ.update(  # noqa: TID251 - TensorFlow's own settings, which it takes from nowhere else
        TF_NUM_INTRAOP_THREADS=str(threads),
        TF_NUM_INTEROP_THREADS=str(threads),
        TF_FORCE_GPU_ALLOW_GROWTH="true",
    )


@skipper.hook
def skipper_save_model(value: Any, folder: Path) -> str | None:
    """Save a ``keras.Model`` as one ``.keras`` file, and the names of the project's own in it.

    Raises FormatError for a model with a Lambda layer: loading it would run code out of
    the file, which nothing that serves a model does; and for classes that could not be loaded.
    """
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(value, keras.Model):
        return None
    for layer in _layers(value):
        if isinstance(layer, keras.layers.Lambda):
            raise skipper.FormatError(
                f"the layer {layer.name!r} is a Lambda, whose code would be in the saved model; "
                "write a Layer class, marked @keras.saving.register_keras_serializable()."
            )
    with FORMAT.saving(folder), _untraced(value):
        value.save(folder / _FILE)
        own = _own_names(value, folder / _FILE)
        (folder / _OWN).write_text(json.dumps(own), encoding="utf-8")
    return FORMAT.name


@contextlib.contextmanager
def _untraced(model: Any) -> Iterator[None]:
    """Has it be of its own class, because the file names the class that loading it looks for."""
    served_as = type(model)
    model.__class__ = vars(served_as).get("untraced", served_as)
    try:
        yield
    finally:
        model.__class__ = served_as


def _own_names(model: Any, file: Path) -> dict[str, tuple[str, str]]:
    """Under what name a saved model asks for each class and function that is not Keras's.

    Raises FormatError for one that is the project's and could not be found again, and for one that
    is nobody's: neither the project's nor registered with Keras by whoever it is of.
    """
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))
    found: dict[str, tuple[str, str]] = {}
    for key, module, name in {*_classes(config), *_functions(model)}:
        if found.setdefault(key, (module, name)) != (module, name):
            raise skipper.FormatError(
                f"the model has two classes or functions named {key!r}; "
                "mark each @keras.saving.register_keras_serializable(package=…)"
            )
        try:
            skipper.from_project(module, name)
        except skipper.FormatError:
            if ">" not in key:
                raise
            del found[key]  # registered by a library, which the file that serves it imports
    return found


def _classes(config: Any) -> Iterator[tuple[str, str, str]]:
    """What a configuration names of others: the name it asks for, the module and the class."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        if not isinstance(part, dict):
            continue
        waiting += [value for key, value in part.items() if key != "compile_config"]
        module, name = part.get("module"), part.get("class_name")
        if isinstance(module, str) and isinstance(name, str) and not _is_keras(module):
            if name == "function":
                name = str(part.get("config")).rpartition(">")[2]
            yield part.get("registered_name") or name, module, name


def _functions(model: Any) -> Iterator[tuple[str, str, str]]:
    """The functions that layers hold, as activations: a configuration has their names alone."""
    import keras

    for layer in _layers(model):
        for value in vars(layer).values():
            if isinstance(value, FunctionType) and not _is_keras(value.__module__):
                name = keras.saving.get_registered_name(value)
                yield name, value.__module__, value.__qualname__


def _is_keras(module: str) -> bool:
    return module.partition(".")[0] in {"builtins", "keras"}


@skipper.hook
def skipper_load_model(format: str, folder: Path) -> Any | None:  # noqa: A002 - the hook's word
    """Load a ``keras.Model`` and trace it: call it with an array, ``model(x)``.

    It is called through a graph with a free batch dimension, which is made and run once here, so
    that no caller meets that, whether it takes one array or several. The model is not compiled; to
    train it further, ``compile`` it first.
    """
    if format != FORMAT.name:
        return None
    with FORMAT.loading(folder):
        import keras

        model = keras.saving.load_model(
            folder / _FILE, compile=False, safe_mode=True, custom_objects=_own_objects(folder)
        )
    _trace(model)
    return model


def _own_objects(folder: Path) -> dict[str, Any]:
    """What a saved model names of the project, as the project defines it now."""
    file = folder / _OWN
    own = json.loads(file.read_bytes()) if file.exists() else {}
    return {key: skipper.from_project(module, name) for key, (module, name) in own.items()}


@skipper.hook
def skipper_model_state(format: str, model: Any) -> bytes | None:  # noqa: A002 - the hook's word
    """A digest of the model's variables, configuration and plain attributes, and of its layers'."""
    if format != FORMAT.name:
        return None
    digest = hashlib.sha256(json.dumps(model.get_config(), default=str).encode())
    for part in (model, *_layers(model)):
        digest.update(repr(_attributes(part)).encode())
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.digest()


def _attributes(part: Any) -> list[tuple[str, object]]:
    """What a run may set on a model or a layer: of what is no plain value, the class."""
    named = sorted(item for item in vars(part).items() if item[0] not in _MADE_BY_USE)
    return [
        (name, value if isinstance(value, str | bytes | int | float | None) else type(value))
        for name, value in named
        if not name.startswith("_")
    ]


def _trace(model: Any) -> None:
    """Have ``model(x)`` run as a graph, which is made and run once here.

    The model stays what it is, an instance of its class: it gets a subclass of its own, whose
    calls in inference take the short way. One that does not declare its inputs, or that cannot be
    traced, is run once as it is.
    """
    import tensorflow as tf

    eager, specs = type(model).__call__, _inputs_of(model)
    if specs is None:
        return
    try:
        graph = tf.function(lambda x: eager(model, x, training=False), input_signature=[specs])
        run = graph.get_concrete_function()
    except Exception:  # noqa: BLE001 - layers of anybody's making may raise anything
        _run_once(model, specs)
        return
    _run_once(run, specs)
    taken = _one_taken(specs) if isinstance(specs, tf.TensorSpec) else _many_taken(specs)

    def call(self: Any, inputs: Any, *args: Any, training: bool = False, **more: Any) -> Any:
        if training or args or more or self is not model or not tf.executing_eagerly():
            return eager(self, inputs, *args, training=training, **more)
        try:
            x = taken(inputs)
        except (TypeError, ValueError):  # not what the graph takes: Keras may know what to do
            return eager(self, inputs, training=False)
        return run(x)

    members = {"__call__": call, "untraced": type(model)}
    model.__class__ = type(type(model).__name__, (type(model),), members)


def _inputs_of(model: Any) -> Any:
    """The arrays that a model takes, as it takes them: one, or a list or dictionary of several.

    Sizes that may be any, the number of rows first of all, are None. None where it declares none.
    """
    import tensorflow as tf

    if not getattr(model, "inputs", None):
        shape = (model.get_build_config() or {}).get("input_shape") or ()
        sizes = [size for size in shape if size is None or isinstance(size, int)]
        return tf.TensorSpec((None, *sizes[1:])) if sizes and len(sizes) == len(shape) else None
    structure = getattr(model, "input", None)
    return tf.nest.map_structure(
        lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype),
        model.inputs[0] if structure is None else structure,
    )


def _one_taken(spec: Any) -> Callable[[Any], Any]:
    """Makes the tensor that a graph takes. Raises ValueError for what does not fit."""
    import tensorflow as tf

    dtype, shape = spec.dtype, spec.shape

    def taken(inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs, dtype)
        if not shape.is_compatible_with(x.shape):
            raise ValueError
        return x

    return taken


def _many_taken(specs: Any) -> Callable[[Any], Any]:
    """The same for several arrays in one structure. Raises TypeError for another structure."""
    import tensorflow as tf

    each = tf.nest.map_structure(_one_taken, specs)
    return lambda inputs: tf.nest.map_structure(lambda taken, x: taken(x), each, inputs)


def _run_once(run: Any, specs: Any) -> None:
    """Have what is made at the first call made now."""
    for size in _SIZES:
        # It may be too small for the model, or the model may be at fault: then its callers see why.
        with contextlib.suppress(Exception):
            run(_zeros(specs, size))
            return


def _zeros(specs: Any, size: int) -> Any:
    """Arrays to try a model with."""
    import tensorflow as tf

    def one(spec: Any) -> Any:
        return tf.zeros([size if known is None else known for known in spec.shape], spec.dtype)

    return tf.nest.map_structure(one, specs)


def EpochProgress(  # noqa: N802 - it stands where classes of Keras do
    run: skipper.Run, total: int | None = None
) -> Any:
    """Make a Keras callback that calls ``run.progress(epoch, epochs, loss=…)`` after every epoch.

    The values are those that Keras logs: ``loss`` and the metrics of the training rows, and with
    validation data ``val_loss`` and so on. ``total`` replaces the number of epochs given to
    ``fit``, for training in several rounds. When the run is cancelled, training stops after the
    current batch and ``fit`` returns; look at ``run.cancelled`` before you use the half-trained
    model::

        model.fit(x, y, epochs=epochs, verbose=0, callbacks=[skipper_tensorflow.EpochProgress(run)])
    """
    import keras

    def stop_if_cancelled(batch: int, logs: Any = None) -> None:
        del batch, logs
        if run.cancelled:
            callback.model.stop_training = True

    def report(epoch: int, logs: dict[str, Any] | None = None) -> None:
        if run.cancelled:
            callback.model.stop_training = True
            return
        values = {str(name): value for name, value in (logs or {}).items()}
        run.progress(epoch + 1, total or callback.params["epochs"], **values)

    callback = keras.callbacks.LambdaCallback(
        on_train_batch_begin=stop_if_cancelled, on_epoch_end=report
    )
    return callback


def Checkpoints(  # noqa: N802 - it stands where classes of Keras do
    run: skipper.Run, every: int = 1
) -> Any:
    """Make a Keras callback that has ``fit`` go on in the epoch after the last one that was kept.

    After each ``every``-th epoch the variables of the model and of its optimizer, the states of its
    random generators included, and the epoch are a checkpoint of ``run``; before the first they are
    put back. So this one line does both, for one ``fit`` in a run::

        model.fit(x, y, epochs=epochs, verbose=0, callbacks=[skipper_tensorflow.Checkpoints(run)])

    Where rows are not shuffled the end is that of a run which nothing has disturbed. States of
    other callbacks, such as that of early stopping, begin anew. What does not fit the model any
    more is told in the task's log, and training begins at its first epoch.
    """
    import keras

    def restore(logs: Any = None) -> None:
        del logs
        epoch = _restored_epoch(run, callback.model)
        # As Keras's own BackupAndRestore does: a callback has no other way to say where to begin.
        callback.model._initial_epoch = epoch or None

    def keep(epoch: int, logs: Any = None) -> None:
        del logs
        if (epoch + 1) % every == 0 and not run.cancelled:  # else it may have been cut short
            with tempfile.TemporaryDirectory(prefix="skipper-keras-") as folder:
                _write_state(callback.model, epoch + 1, Path(folder))
                run.checkpoint(Path(folder))

    def forget(logs: Any = None) -> None:
        del logs
        callback.model._initial_epoch = None

    callback = keras.callbacks.LambdaCallback(
        on_train_begin=restore, on_epoch_end=keep, on_train_end=forget
    )
    return callback


def _variables_of(model: Any) -> list[Any]:
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def _write_state(model: Any, epoch: int, folder: Path) -> None:
    """Write what training goes on from: by place, since names count up within a process."""
    import numpy as np

    values = [variable.numpy() for variable in _variables_of(model)]
    # NumPy's files hold no types of other libraries, such as bfloat16.
    plain = [it.view(f"u{it.itemsize}") if it.dtype.kind == "V" else it for it in values]
    np.savez(folder / _STATE, epoch=epoch, **{str(place): it for place, it in enumerate(plain)})


def _restored_epoch(run: skipper.Run, model: Any) -> int:
    """Put back what the run has restored; how many epochs are done, 0 where nothing fits."""
    import numpy as np

    if (restored := run.restored) is None:
        return 0
    try:
        # Opened here, because NumPy leaves a file open that is none of its own.
        with (
            (Path(restored) / _STATE).open("rb") as stream,
            np.load(stream, allow_pickle=False) as state,
        ):
            epoch, values = int(state["epoch"]), [state[str(n)] for n in range(len(state) - 1)]
        variables = _variables_of(model)
        fitting = [_fitting(*pair) for pair in zip(variables, values, strict=True)]
    except Exception as error:  # noqa: BLE001 - it may be a checkpoint of anything
        run.log(f"the checkpoint does not fit the model: {error}", level="warning")
        return 0
    for variable, value in zip(variables, fitting, strict=True):
        variable.assign(value)
    return epoch


def _fitting(variable: Any, value: Any) -> Any:
    """A stored value as that of a variable. Raises ValueError where it is of another shape."""
    now = variable.numpy()
    if value.dtype != now.dtype and now.dtype.kind == "V":
        value = value.view(now.dtype)
    if (value.shape, value.dtype) != (now.shape, now.dtype):
        raise ValueError(
            f"{variable.path} is {now.dtype} {now.shape}, and what was kept {value.dtype} "
            f"{value.shape}"
        )
    return value


def _layers(model: Any) -> Iterator[Any]:
    """Every layer, those of nested models too."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
