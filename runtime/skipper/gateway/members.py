"""The parameters of a call that came one by one: the JSON object that they are together."""

from __future__ import annotations

import json
from typing import NoReturn

from pydantic_core import from_json

from skipper import problems
from skipper.gateway.media import told_by_name
from skipper.gateway.problems import Problem
from skipper.spec import FunctionSpec
from skipper.values import forms
from skipper.values.envelope import Part, reference
from skipper.values.file import OCTETS
from skipper.values.types import matches
from skipper.values.value import JSON


class FormMembers:
    """The JSON object that a body stands for, a member for each parameter."""

    def __init__(self, spec: FunctionSpec) -> None:
        self._spec, self._schema = spec, spec.input_schema
        self._properties = forms.properties(self._schema)
        self._texts: dict[str, list[str]] = {}
        self._values: dict[str, list[bytes]] = {}
        """The JSON of each."""

    def check(self, name: str) -> None:
        """Raise Problem for a parameter that there is not, before anything is kept for it."""
        if name not in self._properties:
            known = ", ".join(self._properties) or "none"
            self._refuse(name, f"there is no such parameter; there are: {known}")

    def is_bytes(self, name: str, media_type: str, filename: str | None) -> bool:
        """Whether a parameter takes the bytes of a part as they are.

        A field without a name and a type is text to a parameter that is not read from just any
        bytes: an array can be typed in. JSON is JSON, unless it is a file.
        """
        if name not in self._spec.takes and name not in self._spec.takes_many:
            return False
        if filename is not None:
            return True
        reads = self._spec.takes.get(name, ("*/*",))
        return media_type != JSON if media_type else matches(OCTETS, reads)

    def media_type(self, name: str, told: str, filename: str | None) -> str:
        """What the bytes of a part are. Raises Problem where its parameter is not read from it."""
        if (reads := self._spec.takes.get(name)) is None:
            return told or OCTETS
        found = told_by_name(told, filename, reads)
        if found == JSON or matches(found, reads):
            return found
        detail = f"part {name!r} is {found}; the parameter is read from {', '.join(reads)} and JSON"
        raise Problem(problems.MEDIA, detail, {"function": self._spec.name})

    def add_text(self, name: str, text: str) -> None:
        self.check(name)
        self._texts.setdefault(name, []).append(text)

    def add_part(self, name: str, part: Part) -> None:
        self._add(name, json.dumps(reference(part.key)).encode())

    def add_json(self, name: str, data: bytes) -> None:
        """Raises Problem for what is not JSON: it stands among other members as it is."""
        try:
            from_json(data, allow_inf_nan=False)
        except ValueError as error:
            raise Problem(problems.MALFORMED, f"part {name!r} is not JSON: {error}") from None
        self._add(name, data)

    def _add(self, name: str, value: bytes) -> None:
        self._values.setdefault(name, []).append(value)

    def _refuse(self, name: str, detail: str) -> NoReturn:
        place = {"pointer": f"/{name}", "detail": detail}
        raise Problem(
            problems.INVALID_INPUT,
            f"/{name}: {detail}",
            {"function": self._spec.name, "errors": [place]},
        )

    def json(self) -> bytes:
        """The object. Raises Problem for what is given twice and is no list."""
        whole = {name: self._read(name, texts) for name, texts in self._texts.items()}
        for name, values in self._values.items():
            is_many = name in self._spec.takes_many or (
                name not in self._spec.takes
                and len(values) > 1
                and forms.is_list(self._properties[name], self._schema)
            )
            if name in whole or (len(values) > 1 and not is_many):
                self._refuse(name, "it is given more than once, and is no list")
            whole[name] = b"[" + b",".join(values) + b"]" if is_many else values[0]
        members = (json.dumps(name).encode() + b":" + value for name, value in whole.items())
        return b"{" + b",".join(members) + b"}"

    def _read(self, name: str, texts: list[str]) -> bytes:
        try:
            value = forms.from_text(self._properties[name], texts, self._schema)
            return json.dumps(value, allow_nan=False).encode()
        except RecursionError:
            self._refuse(name, "it is nested too deep")
        except ValueError as error:
            self._refuse(name, str(error))


class FileMembers:
    """The form that uploads one file, whatever its part is called; a field ``name`` names it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._has_file = False

    def check(self, name: str) -> None:
        """Any name may be a file's."""

    def is_bytes(self, name: str, media_type: str, filename: str | None) -> bool:
        """Whether a part is the file."""
        del media_type
        return name != "name" or filename is not None

    def media_type(self, name: str, told: str, filename: str | None) -> str:
        """What the file is. Raises Problem for a second one."""
        if self._has_file:
            raise Problem(problems.BAD_REQUEST, f"part {name!r}: a form uploads one file alone")
        self._has_file = True
        return told_by_name(told, filename, ("*/*",))

    def add_part(self, name: str, part: Part) -> None:
        """The file has come."""

    def add_text(self, name: str, text: str) -> None:
        if self.name is not None:
            raise Problem(problems.INVALID_INPUT, f"part {name!r} is given more than once")
        self.name = text

    def add_json(self, name: str, data: bytes) -> None:
        del data
        raise Problem(problems.INVALID_INPUT, f"part {name!r} is text, and no JSON")
