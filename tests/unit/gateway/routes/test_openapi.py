import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, computed_field

import skipper
from skipper.gateway.routes import openapi
from skipper.spec import FunctionSpec
from skipper.tasks.documents import TASK_SCHEMA


class House(BaseModel):
    rooms: int


class Street(BaseModel):
    name: str
    houses: list[House] = []
    beside: "Street | None" = None

    @computed_field
    def length(self) -> int:
        return len(self.houses)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


@skipper.inference
def price(house: House) -> float:
    """Tells a price.

    In thousands.
    """
    return house.rooms * 1.0


@skipper.data
def sweep(street: Street) -> list[Street]:
    return [street]


@skipper.data
def feed(pet: Annotated[Cat | Dog, Field(discriminator="kind")], times: int = 1) -> None: ...


@skipper.training
def train(epochs: int = 5) -> skipper.Model: ...  # type: ignore[empty-body] # only declared


@skipper.data
def count() -> Iterator[int]:
    yield 1


BASE = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "paths": {
        "/v1/tasks": {
            "get": {
                "responses": {
                    "200": {"description": "ok"},
                    "422": {
                        "description": "Validation Error",
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/HTTPValidationError"}
                            }
                        },
                    },
                }
            }
        }
    },
    "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}}},
}


def sent(spec: FunctionSpec) -> FunctionSpec:
    """As it comes from a host, through JSON."""
    return FunctionSpec.model_validate_json(spec.model_dump_json())


def document(*functions: Any) -> dict[str, Any]:
    return openapi.document(BASE, [sent(f.spec("c0de")) for f in functions])


def operation(function: Any) -> dict[str, Any]:
    path: dict[str, Any] = document(function)["paths"][f"/v1/functions/{function.name}/invoke"]
    return path["post"]  # type: ignore[no-any-return] # JSON


def strings(value: Any) -> Iterator[str]:
    """Every string in a document, keys aside."""
    if isinstance(value, str):
        yield value
    for item in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from strings(item)


ALL = (price, sweep, feed, train, count)


def test_every_function_is_an_operation_of_its_own_name() -> None:
    whole = document(*ALL)
    calls = [path for path in whole["paths"] if path.startswith("/v1/functions/")]
    assert calls == [f"/v1/functions/{f.name}/invoke" for f in ALL]
    ids = [whole["paths"][path]["post"]["operationId"] for path in calls]
    assert len(set(ids)) == len(ALL)


def test_names_that_differ_in_dots_alone_stay_apart() -> None:
    specs = [price.spec("c0de").model_copy(update={"name": name}) for name in ("a.b_c", "a_b.c")]
    whole = openapi.document(BASE, specs)
    paths = (f"/v1/functions/{spec.name}/invoke" for spec in specs)
    assert [whole["paths"][path]["post"]["operationId"] for path in paths] == ["a.b_c", "a_b.c"]


def test_a_task_is_described_by_its_schema() -> None:
    assert document()["components"]["schemas"]["Task"] == TASK_SCHEMA


def test_where_keys_are_needed_it_describes_how_to_show_one() -> None:
    assert "security" not in document()
    whole = openapi.document(BASE, [], needs_key=True)
    schemes = whole["components"]["securitySchemes"]
    assert whole["security"] == [{name: []} for name in schemes]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    whole = document(*ALL)
    references = [text for text in strings(whole) if text.startswith("#/")]
    assert len(references) > 5
    for reference in references:
        place: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, reference
            place = place[part]
    assert "$defs" not in json.dumps(whole)


def test_names_of_components_are_what_the_standard_allows() -> None:
    for name in document(*ALL)["components"]["schemas"]:
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)


def test_definitions_of_one_name_in_two_functions_stay_apart() -> None:
    def other() -> Callable[..., Any]:
        class House(BaseModel):
            floors: str

        class Block(BaseModel):
            houses: list[House]

        def block(x: Block, y: int = 0) -> None: ...

        block.__annotations__ = {"x": Block, "y": int, "return": None}
        return block

    schemas = document(sweep, skipper.data(other()))["components"]["schemas"]
    houses = [value for name, value in schemas.items() if name.endswith(".House")]
    assert {"rooms"} in [set(house["properties"]) for house in houses]
    assert {"floors"} in [set(house["properties"]) for house in houses]


def test_an_operation_describes_its_function() -> None:
    described = operation(price)
    assert described["summary"] == "Tells a price."
    assert "In thousands." in described["description"]
    assert described["tags"] == ["functions: inference"]
    assert described["requestBody"]["content"]["application/json"]["schema"]["title"] == "House"
    ok = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert ok == {"type": "number"}


def test_a_function_without_a_docstring_is_called_by_its_name() -> None:
    assert operation(sweep)["summary"] == sweep.name


@pytest.mark.parametrize(("function", "required"), [(price, True), (train, False), (count, False)])
def test_a_body_is_required_where_something_in_it_is(function: Any, required: bool) -> None:
    assert operation(function)["requestBody"]["required"] is required


def test_a_stream_is_described_as_the_array_that_a_plain_call_gets() -> None:
    ok = operation(count)["responses"]["200"]["content"]["application/json"]["schema"]
    assert ok == {"type": "array", "items": {"type": "integer"}}


@skipper.inference(batch=8)
def prices(houses: list[House]) -> list[float]: ...  # type: ignore[empty-body] # only declared


@skipper.inference(batch=8)
def baskets(items: list[int]) -> list[int]: ...  # type: ignore[empty-body] # only declared


def test_a_batched_function_takes_one_item_or_many() -> None:
    described = operation(prices)
    given = described["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    value = described["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    assert [schema["title"] for schema in given] == ["House", "Many items"]
    assert given[1]["properties"]["items"]["items"] == given[0]
    assert value[0] == {"type": "number"}
    assert value[1]["properties"]["items"]["items"]["anyOf"][0] == {"type": "number"}


def test_where_an_item_has_items_of_its_own_there_is_no_way_to_send_many() -> None:
    given = operation(baskets)["requestBody"]["content"]["application/json"]["schema"]
    assert "anyOf" not in given


@pytest.mark.parametrize(("function", "is_task"), [(train, True), (price, False)])
def test_a_task_is_described_as_one(function: Any, is_task: bool) -> None:
    assert ("answered with a task" in operation(function)["description"]) is is_task


def test_every_refusal_is_a_problem_document() -> None:
    responses = operation(price)["responses"]
    refusals = {status: each for status, each in responses.items() if status[0] in "45"}
    assert set(refusals) >= {"400", "404", "413", "415", "422", "500", "502", "503", "504"}
    for each in (*refusals.values(), document()["paths"]["/v1/tasks"]["get"]["responses"]["400"]):
        schema = each["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}


def test_a_wrong_body_is_distinct_from_a_wrong_parameter() -> None:
    assert operation(price)["responses"]["422"]["description"].startswith("The body does not match")
    parameters = document(price)["paths"]["/v1/tasks"]["get"]["responses"]
    assert "422" not in parameters
    assert "a parameter" in parameters["400"]["description"]


def test_the_headers_that_a_caller_may_send_are_described() -> None:
    parameters = {each["name"]: each for each in operation(price)["parameters"]}
    assert list(parameters) == [
        "Prefer",
        "Idempotency-Key",
        "X-Skipper-Sticky",
        "X-Skipper-Priority",
        "X-Skipper-Delay",
        "X-Skipper-Expires",
    ]
    assert not any(each["required"] for each in parameters.values())
    assert parameters["X-Skipper-Priority"]["schema"]["minimum"] == -10


def test_a_model_that_comes_and_goes_is_described_as_it_comes_and_as_it_goes() -> None:
    schemas = document(sweep)["components"]["schemas"]
    streets = {name: value for name, value in schemas.items() if name.endswith(".Street")}
    given = json.dumps(operation(sweep)["requestBody"])
    (body,) = (value for name, value in streets.items() if f'/{name}"' in given)
    (value,) = (value for value in streets.values() if value is not body)
    assert "length" not in body["properties"]
    assert "length" in value["properties"]


def test_fastapis_own_errors_are_not_described() -> None:
    assert "HTTPValidationError" not in json.dumps(document(price))


def test_the_document_it_starts_from_is_left_as_it_was() -> None:
    before = json.dumps(BASE)
    first = json.dumps(document(*ALL))
    assert json.dumps(document(*ALL)) == first
    assert json.dumps(BASE) == before


def test_every_route_names_what_any_request_may_be_answered() -> None:
    for needs_key in (False, True):
        whole = openapi.document(BASE, [sent(price.spec("c0de"))], needs_key=needs_key)
        for operations in whole["paths"].values():
            for found in operations.values():
                named = set(found["responses"])
                assert named >= {"400", "403", "408", "413", "421", "431", "500", "503"}
                assert named & {"200", "201", "204"}
                assert ("401" in named) is needs_key


def looks(picture: bytes, more: list[bytes], label: str = "", house: House | None = None) -> bytes:
    return picture


looks.__module__ = "functions.f"


def test_a_function_of_files_shows_a_form_with_pickers_and_fields() -> None:
    document = openapi.document({"paths": {}}, [skipper.data(looks).spec("c0de")])
    operation = document["paths"]["/v1/functions/f.looks/invoke"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data", "*/*"}
    form = content["multipart/form-data"]
    binary = {"type": "string", "format": "binary"}
    fields = form["schema"]["properties"]
    assert fields["picture"] == binary
    assert fields["more"] == {"type": "array", "items": binary}
    assert fields["label"]["type"] == "string"
    assert {"$ref": "#/components/schemas/f.looks.House"} in fields["house"]["anyOf"]
    assert "f.looks.House" in document["components"]["schemas"]
    assert form["schema"]["required"] == ["picture", "more"]
    assert form["encoding"] == {"picture": {"contentType": "*/*"}}
    answers = operation["responses"]["200"]["content"]
    assert answers["application/octet-stream"] == {"schema": binary}
    assert operation["responses"]["406"]
    upload = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]
    assert upload["multipart/form-data"]["schema"]["properties"]["file"] == binary
