"""Which version serves, changed over REST while calls go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from skipper import shares
from skipper.client import Client
from skipper.errors import ConflictError, DeploymentError, NotFoundError
from tests.acceptance.test_models import train
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree, until

RECORD = "/v1/models/line/deployment"
PREDICTS = ("lines.predict", "lines.predict_async", "lines.predict_elsewhere")


def send(tree: Tree, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(method, tree.url + path, json=body, headers=headers)


def versions(tree: Tree, count: int = 2) -> list[int]:
    """Train so many versions of the line, whose slopes are their numbers' order from 1."""
    return [train(tree, slope) for slope in range(1, count + 1)]


def served_by(tree: Tree, name: str) -> str:
    return str(tree.invoke(name, {"x": 1}).headers["x-skipper-model"])


def test_the_record_names_what_serves_and_its_revision_is_the_etag(plain: Tree) -> None:
    before, now = versions(plain)
    response = plain.get(RECORD)
    told = response.json()
    assert (told["name"], told["production"], told["previous"]) == ("line", now, before)
    assert (told["candidate"], told["percent"], told["shadow"]) == (None, 0, None)
    assert told["by"] is None
    assert response.headers["etag"] == f'"{told["revision"]}"'
    problem(plain.get("/v1/models/none/deployment"), 404, "not-found")


def test_every_call_after_a_promotion_or_a_rollback_is_served_by_it(plain: Tree) -> None:
    first, second = versions(plain)
    for version in (first, second):  # loaded once, so that what follows loads nothing
        send(plain, "POST", "/v1/models/line/promote", {"version": version})
        for name in PREDICTS:
            until(partial(_is_served_by, plain, name, version))
    for _ in range(5):
        back = send(plain, "POST", "/v1/models/line/rollback", {"why": "drifts"})
        assert (back.status_code, back.json()["production"]) == (200, first)
        assert (back.json()["pending"], back.json()["why"]) == ([], "drifts")
        assert back.json()["by"].startswith(("uid ", "127."))
        assert [served_by(plain, name) for name in PREDICTS] == [f"line@{first}"] * 3
        forth = send(plain, "POST", "/v1/models/line/promote", {"version": second})
        assert (forth.json()["production"], forth.json()["previous"]) == (second, first)
        assert [served_by(plain, name) for name in PREDICTS] == [f"line@{second}"] * 3


def _is_served_by(tree: Tree, name: str, version: int) -> bool:
    return served_by(tree, name) == f"line@{version}"


def test_replies_name_the_revision_of_the_record_that_they_follow(plain: Tree) -> None:
    _, second = versions(plain)

    def is_told(name: str, deployment: str) -> bool:
        return plain.invoke(name, {"x": 1}).headers["x-skipper-deployment"] == deployment

    def until_told(record: dict[str, Any]) -> int:
        revision = int(record["revision"])
        for name in PREDICTS:  # an edition may be loading yet, where the answer names its pool
            until(partial(is_told, name, f"line/{revision}"))
        return revision

    path = "/v1/models/line/rollback"
    revisions = {until_told(send(plain, "POST", path).json()) for _ in range(3)}
    assert len(revisions) == 3, "an edition that is gone back to names the record of now"
    given = {"aliases": {"best": second}}
    record = send(plain, "PUT", RECORD, given, **{"If-Match": "*"}).json()
    assert until_told(record), "though the same versions serve"


def test_a_part_of_the_callers_is_answered_by_the_candidate_each_time(plain: Tree) -> None:
    first, second = versions(plain)
    keys = [f"customer-{number}" for number in range(40)]
    name = PREDICTS[0]

    def answering(key: str) -> str:
        response = plain.invoke(name, {"x": 1}, x_skipper_sticky=key)
        return str(response.headers["x-skipper-model"])

    def candidates(percent: float) -> set[str]:
        given = {"version": first, "percent": percent}
        made = send(plain, "POST", "/v1/models/line/promote", given).json()
        assert (made["production"], made["candidate"]) == (second, first)
        among = {key for key in keys if shares.is_among("line", key, percent)}
        until(lambda: answering(min(among)) == f"line@{first}")
        for key in keys * 2:
            assert answering(key) == f"line@{first if key in among else second}"
        return among

    served_by(plain, name)
    assert candidates(10) < candidates(50)
    calls = plain.json(f"/v1/models/line/versions/{first}")["calls"]
    (mine,) = [each for each in calls if each["function"] == name]
    assert mine["outcomes"]["ok"] == mine["count"] >= 2
    whole = send(plain, "POST", "/v1/models/line/promote", {"version": "candidate"}).json()
    assert whole["candidate"] is None
    until(lambda: {answering(key) for key in keys} == {f"line@{first}"})


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
def test_what_is_no_key_of_a_caller_is_told(plain: Tree, key: str) -> None:
    versions(plain)
    headers = {b"X-Skipper-Sticky": key.encode("latin-1")}
    response = httpx.post(
        f"{plain.url}/v1/functions/{PREDICTS[0]}/invoke", json={"x": 1}, headers=headers
    )
    if not key:
        assert response.status_code == 200
    else:
        assert "X-Skipper-Sticky" in problem(response, 400, "bad-request")["detail"]


def test_of_two_that_follow_one_revision_the_second_is_told_what_holds(plain: Tree) -> None:
    first, second = versions(plain)
    etag = plain.get(RECORD).headers["etag"]

    def promote(version: int) -> httpx.Response:
        given = {"production": version, "aliases": {f"of-{version}": version}}
        return send(plain, "PUT", RECORD, given, **{"If-Match": etag})

    with ThreadPoolExecutor(2) as callers:
        answers = list(callers.map(promote, (first, second)))
    won, lost = sorted(answers, key=lambda each: each.status_code)
    assert won.status_code == 200
    told = problem(lost, 409, "changed-meanwhile")
    assert told["deployment"] == plain.json(RECORD)
    assert won.headers["etag"] == plain.get(RECORD).headers["etag"]


def test_a_change_says_what_it_follows(plain: Tree) -> None:
    first, _ = versions(plain)
    problem(send(plain, "PUT", RECORD, {"production": first}), 412, "revision-needed")
    for text in ("41", '"x"', 'W/"1"', '"01"', '"1", "2"'):
        headers = {"If-Match": text}
        problem(send(plain, "PUT", RECORD, {"shadow": None}, **headers), 412, "revision-needed")
    whichever = send(plain, "PUT", RECORD, {"production": first}, **{"If-Match": "*"})
    assert whichever.json()["production"] == first


def test_what_a_change_leaves_out_stays_and_what_is_null_ends(plain: Tree) -> None:
    first, second, third = versions(plain, 3)
    anyhow = {"If-Match": "*"}
    given = {"candidate": first, "percent": 10, "shadow": second, "aliases": {"best": first}}
    made = send(plain, "PUT", RECORD, given, **anyhow).json()
    assert {name: made[name] for name in given} == given
    made = send(plain, "PUT", RECORD, {"percent": 50}, **anyhow).json()
    assert (made["candidate"], made["percent"], made["shadow"]) == (first, 50, second)
    ended = send(plain, "PUT", RECORD, {"candidate": None, "shadow": None}, **anyhow).json()
    assert (ended["candidate"], ended["percent"], ended["shadow"]) == (None, 0, None)
    assert (ended["production"], ended["aliases"]) == (third, {"best": first})


@pytest.mark.parametrize(
    ("given", "status", "slug"),
    [
        ({"production": 10**6}, 422, "no-such-version"),
        ({"candidate": 10**6, "percent": 5}, 422, "no-such-version"),
        ({"percent": 5}, 422, "invalid-deployment"),
        ({"production": None}, 422, "invalid-deployment"),
        ({"aliases": {"latest": 1}}, 422, "invalid-deployment"),
        ({"aliases": {"7": 1}}, 422, "invalid-deployment"),
        ({"production": 0}, 400, "bad-request"),
        ({"production": True}, 400, "bad-request"),
        ({"production": 1.5}, 400, "bad-request"),
        ({"production": "1"}, 400, "bad-request"),
        ({"production": 2**31}, 400, "bad-request"),
        ({"candidate": 1, "percent": 101}, 400, "bad-request"),
        ({"previous": 1}, 400, "bad-request"),
        ({"why": "x" * 501}, 400, "bad-request"),
        ([1], 400, "bad-request"),
    ],
)
def test_what_cannot_serve_changes_nothing(plain: Tree, given: Any, status: int, slug: str) -> None:
    versions(plain)
    before = plain.json(RECORD)
    problem(send(plain, "PUT", RECORD, given, **{"If-Match": "*"}), status, slug)
    assert plain.json(RECORD) == before


def test_a_version_is_promoted_by_its_role_or_its_alias_and_in_part(plain: Tree) -> None:
    first, second, third = versions(plain, 3)
    path = "/v1/models/line/promote"
    made = send(plain, "PUT", "/v1/models/line/aliases/best", {"version": first}).json()
    assert made["aliases"]["best"] == first
    assert send(plain, "POST", path, {"version": "best"}).json()["production"] == first
    assert send(plain, "POST", path, {"version": "latest"}).json()["production"] == third
    part = send(plain, "POST", path, {"version": second, "percent": 25}).json()
    assert (part["production"], part["candidate"], part["percent"]) == (third, second, 25)
    whole = send(plain, "POST", path, {"version": "candidate"}).json()
    assert (whole["production"], whole["candidate"]) == (second, None)
    problem(send(plain, "POST", path, {"version": "worst"}), 422, "no-such-version")
    problem(send(plain, "POST", path, {"version": "a b"}), 422, "no-such-version")
    problem(send(plain, "POST", "/v1/models/none/promote", {"version": 1}), 404, "not-found")
    gone = send(plain, "DELETE", "/v1/models/line/aliases/best")
    assert "best" not in gone.json()["aliases"]
    problem(send(plain, "DELETE", "/v1/models/line/aliases/best"), 404, "not-found")


def test_a_version_is_shown_with_its_files_and_what_it_is(plain: Tree) -> None:
    first, second = versions(plain)
    send(plain, "PUT", "/v1/models/line/aliases/old", {"version": first})
    told = plain.json(f"/v1/models/line/versions/{first}")
    assert (told["version"], told["metrics"], told["roles"]) == (first, {"slope": 1}, ["previous"])
    assert "old" in told["aliases"]
    assert isinstance(told["libraries"], dict)
    (file,) = told["files"]
    assert (file["path"], len(file["sha256"])) == ("model.json", 64)
    assert file["size"] > 0
    assert plain.json(f"/v1/models/line/versions/{second}")["roles"] == ["production"]
    assert plain.json("/v1/models/line/versions/previous")["version"] == first
    assert plain.json("/v1/models/line/versions/old") == plain.json(
        f"/v1/models/line/versions/{first}"
    )
    problem(plain.get("/v1/models/line/versions/candidate"), 404, "not-found")
    problem(plain.get("/v1/models/line/versions/1000000"), 404, "not-found")
    problem(plain.get("/v1/models/line/versions/0"), 400, "bad-request")


def test_records_that_have_held_are_pages_newest_first(plain: Tree) -> None:
    versions(plain, 3)
    path = "/v1/models/line/deployments"
    first = plain.json(path, params={"limit": 2})
    rest = plain.json(path, params={"limit": 200, "cursor": first["next"]})
    revisions = [item["revision"] for item in first["items"] + rest["items"]]
    assert revisions == list(range(revisions[0], 0, -1))
    assert rest["next"] is None
    problem(plain.get("/v1/models/none/deployments"), 404, "not-found")


def test_a_client_changes_what_serves(plain: Tree) -> None:
    first, second = versions(plain)
    with Client(plain.url) as client:
        held = client.deployment("line")
        assert client.roll_back("line", why="drifts")["production"] == first
        with pytest.raises(ConflictError, match="at revision"):
            client.promote("line", second, follows=held["revision"])
        assert client.promote("line", second)["production"] == second
        assert client.promote("line", first, percent=5)["candidate"] == first
        assert client.change_deployment("line", {"candidate": None})["candidate"] is None
        assert client.set_alias("line", "kept", "previous")["aliases"]["kept"] == first
        assert "kept" not in client.delete_alias("line", "kept")["aliases"]
        assert client.model_version("line", first)["version"] == first
        assert client.deployments("line")[0] == client.deployment("line")
        with pytest.raises(NotFoundError, match="no alias 'worst'"):
            client.promote("line", "worst")
        with pytest.raises(DeploymentError, match="percent"):
            client.change_deployment("line", {"percent": 5})
