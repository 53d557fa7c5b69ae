"""Settings: precedence, origins, and messages with what is wrong, where, and what to write."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import SettingsError
from skipper.settings import model as module
from skipper.settings.handover import dump, restore
from skipper.settings.loading import find_project, load, load_sections
from skipper.settings.model import Settings
from skipper.settings.schema import leaves
from skipper.settings.urls import SECRET_MASK

KEY = "open-sesame-0123456789"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("SKIPPER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "proj"
    folder.mkdir()
    return folder


def write(project: Path, text: str) -> None:
    (project / "skipper.toml").write_text(text)


def error_of(project: Path, **flags: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(project, flags)
    return str(caught.value)


# --- precedence ---


def test_a_folder_without_a_file_has_the_defaults(project: Path) -> None:
    settings, origins = load(project)
    assert settings.gateway.port == 8000
    assert set(origins.values()) == {"default"}


def test_flags_beat_environment_beats_file_beats_defaults(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "[gateway]\nport = 1\nworkers = 2\nmax_body_mb = 3\n")
    monkeypatch.setenv("SKIPPER_GATEWAY_WORKERS", "4")
    monkeypatch.setenv("SKIPPER_GATEWAY_PORT", "5")
    settings, origins = load(project, {"gateway.port": 6, "gateway.host": None})
    gateway = settings.gateway
    assert (gateway.port, gateway.workers, gateway.max_body_mb) == (6, 4, 3)
    assert origins["gateway.port"] == "flag"
    assert origins["gateway.workers"] == "$SKIPPER_GATEWAY_WORKERS"
    assert origins["gateway.max_body_mb"] == "skipper.toml:4"
    assert origins["gateway.host"] == "default"


def test_lists_in_the_environment_are_separated_by_commas(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_ALLOWED_HOSTS", "a.example,b.example")
    assert load(project)[0].gateway.allowed_hosts == ("a.example", "b.example")


def test_a_variable_that_may_mean_two_settings_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "[pools.a-b]\n[pools.a_b]\n")
    load(project)
    monkeypatch.setenv("SKIPPER_POOLS_A_B_SLOTS", "1")
    assert "may mean pools.a-b.slots or pools.a_b.slots: write it in skipper.toml" in error_of(
        project
    )


def test_one_pool_in_the_file_leaves_the_other_as_it_is(project: Path) -> None:
    write(project, "[pools.gpu]\nslots = 3\n")
    pools = load(project)[0].pools
    assert (pools["gpu"].slots, pools["cpu"].slots) == (3, 0)


def test_what_is_dumped_is_restored(project: Path) -> None:
    write(project, f'[gateway]\nkeys = ["{KEY}"]\n[broker]\nurl = "amqp://u:p@h//"\n')
    settings, _ = load(project)
    file = project / "settings.json"
    dump(settings, file)
    assert restore(file) == settings
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- what is wrong, and where ---


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[gateway]\nprot = 1", 2, ["no setting 'gateway.prot'", "did you mean 'gateway.port'?"]),
        ("[gatway]\nport = 1", 2, ["'gatway.port'", "'gateway.port'"]),
        ("[gatway]\n", 1, ["'gatway'"]),
        ("gateway.port = 'x'", 1, ["gateway.port = 'x'", "valid integer"]),
        ("# [gateway]\ngateway = { port = 70000 }", 2, ["gateway.port", "65535"]),
        ("[pools.cpu] # here\n'slots' = -1", 2, ["pools.cpu.slots = -1"]),
        ("[pools.tpu]\nslot = 1", 2, ["'pools.tpu.slot'", "'pools.tpu.slots'"]),
        ("pools.cpu = 4", 1, ["pools.cpu = 4: Input should be a valid dict"]),
        ("pools = 4", 1, ["pools holds tables: write [pools.NAME]."]),
        ("[log]\nlevel = 'loud'", 2, ["log.level", "'debug'"]),
        ("[log]\nlevels = { boston = 'loud' }", 2, ["log.levels.boston", "'debug'"]),
        ("[log]\nlevels = { '../x' = 'debug' }", 2, ["log.levels", "boston.train"]),
        ("[project]\nname = 'My Project'", 2, ["lower-case"]),
        ("[broker]\nurl = 'kafka://h'", 2, ["broker.url", "amqp", "redis"]),
        ("[database]\nurl = 'mysql://h'", 2, ["database.url", "postgresql"]),
        ("[gateway]\n\nkeys = 'abc'", 3, ["gateway.keys"]),
    ],
)
def test_a_wrong_line_is_named(project: Path, text: str, line: int, words: list[str]) -> None:
    write(project, text)
    message = error_of(project)
    assert message.startswith(f"skipper.toml:{line}: ")
    assert all(word in message for word in words), message


def test_every_wrong_value_has_its_own_line(project: Path) -> None:
    write(project, "[gateway]\nport = -1\nworkers = 0\n")
    assert [line.split()[1] for line in error_of(project).splitlines()] == [
        "gateway.port",
        "gateway.workers",
    ]


def test_toml_that_is_none_is_told_with_its_place(project: Path) -> None:
    write(project, "[gateway\n")
    message = error_of(project)
    assert "skipper.toml" in message
    assert "line 1" in message


def test_an_unknown_variable_names_the_nearest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_PROT", "1")
    assert "did you mean 'SKIPPER_GATEWAY_PORT'?" in error_of(project)


def test_variables_for_others_are_let_be(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "API_KEY", "VALKEY_BIN", "TREE", "TEST_SERVICES"):
        monkeypatch.setenv(f"SKIPPER_{name}", "x")
    load(project)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "--project" in error_of(tmp_path / "nowhere")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "127.evil.example"])
def test_no_key_means_no_other_machine(project: Path, host: str) -> None:
    assert "gateway.keys" in error_of(project, **{"gateway.host": host})
    load(project, {"gateway.host": host, "gateway.keys": [KEY]})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_needs_no_key(project: Path, host: str) -> None:
    load(project, {"gateway.host": host})


# --- schedules ---

NIGHTLY = """[schedules.nightly]
function = "boston.train"
cron = "0 3 * * *"
"""


def test_a_schedule_has_a_name_of_the_users_own(project: Path) -> None:
    write(project, NIGHTLY + 'timezone = "Europe/Vilnius"\nbody = { epochs = 60, lr = [0.1] }\n')
    settings, origins = load(project)
    nightly = settings.schedules["nightly"]
    assert (nightly.function, nightly.cron) == ("boston.train", "0 3 * * *")
    assert (nightly.timezone, nightly.missed, nightly.paused) == ("Europe/Vilnius", "once", False)
    assert nightly.body == {"epochs": 60, "lr": [0.1]}
    shown = dict(leaves(settings))
    assert shown["schedules.nightly.body"] == {"epochs": 60, "lr": [0.1]}
    assert json.loads(json.dumps(shown["schedules.nightly.missed"])) == "once"
    assert origins["schedules.nightly.cron"] == "skipper.toml:3"
    assert origins["schedules.nightly.paused"] == "default"
    dump(settings, project / "settings.json")
    assert restore(project / "settings.json") == settings


def test_the_body_of_a_schedule_may_be_a_table_or_any_json(project: Path) -> None:
    write(project, NIGHTLY + "[schedules.nightly.body]\nx = { y = 1 }\n")
    settings, origins = load(project)
    assert settings.schedules["nightly"].body == {"x": {"y": 1}}
    assert origins["schedules.nightly.body"] == "skipper.toml:4"
    write(project, NIGHTLY + "body = [1, 2]\n")
    assert load(project)[0].schedules["nightly"].body == [1, 2]


def test_no_schedules_are_none(project: Path) -> None:
    write(project, "[schedules]\n")
    assert load(project)[0].schedules == {}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (NIGHTLY.replace("0 3", "0 25"), 3, ["schedules.nightly.cron", "the hour is wrong"]),
        (NIGHTLY + "timezone = 'Mars'", 4, ["schedules.nightly.timezone", "no such time zone"]),
        (NIGHTLY + "missed = 'never'", 4, ["schedules.nightly.missed", "'skip'"]),
        (NIGHTLY + "body = { on = 2026-01-01 }", 4, ["schedules.nightly.body", "no dates"]),
        (NIGHTLY + "body = [nan]", 4, ["schedules.nightly.body", "no nan"]),
        (NIGHTLY + "cran = 1", 4, ["'schedules.nightly.cran'", "'schedules.nightly.cron'"]),
        (NIGHTLY.replace("nightly", "Nightly"), 2, ["schedules.Nightly", "lower-case"]),
        ("[schedules.nightly]\ncron = '0 3 * * *'", 2, ["schedules.nightly needs function ="]),
        ("[schedules.nightly]\n", 1, ["schedules.nightly needs function ="]),
        ("schedules = 3", 1, ["schedules holds tables", "[schedules.NAME]"]),
    ],
)
def test_a_wrong_schedule_is_named(project: Path, text: str, line: int, words: list[str]) -> None:
    write(project, text)
    message = error_of(project)
    assert message.startswith(f"skipper.toml:{line}: "), message
    assert all(word in message for word in words), message


def test_the_repositorys_example_of_a_schedule_is_one_with_its_defaults(project: Path) -> None:
    text = (ROOT / "skipper.toml").read_text("utf-8")
    (example,) = re.findall(r"^# (\[schedules\..+?)\n\n", text, re.MULTILINE | re.DOTALL)
    lines = example.replace("\n# ", "\n").splitlines()
    write(project, "\n".join(lines))
    (table,) = load(project)[0].schedules.values()
    given = module.ScheduleSettings(function=table.function, cron=table.cron)
    assert table == given
    assert {line.partition(" ")[0] for line in lines[1:]} == set(
        module.ScheduleSettings.model_fields
    )


def test_the_schedules_page_shows_one_that_is_taken(project: Path) -> None:
    page = (ROOT / "docs" / "schedules.md").read_text("utf-8")
    (table,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    write(project, table)
    assert load(project)[0].schedules["weekly"].body == {"days": 365}


# --- secrets ---


def test_keys_are_shown_nowhere(project: Path) -> None:
    settings, _ = load(project, {"gateway.keys": [KEY]})
    assert KEY not in str(dict(leaves(settings)))
    assert KEY not in repr(settings)


def test_a_wrong_secret_is_not_repeated(project: Path) -> None:
    write(project, "[broker]\nurl = 'amq://user:sesame@h'\n")
    assert "sesame" not in error_of(project)


# --- tables of the user's naming ---

HOOK = """
[webhooks.ops-1]
url = "https://ops.example.com/hooks"
secret = "whsec_%s"
""" % ("c2Vz" * 8)  # "ses" eight times


def test_a_table_of_the_users_naming_is_read_like_any_other(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, HOOK + "functions = ['boston.*']\n")
    monkeypatch.setenv("SKIPPER_WEBHOOKS_OPS_1_EVENTS", "failed,crashed")
    settings, origins = load(project)
    webhook = settings.webhooks["ops-1"]
    assert (webhook.functions, webhook.events) == (("boston.*",), ("failed", "crashed"))
    assert origins["webhooks.ops-1.functions"] == "skipper.toml:5"
    assert origins["webhooks.ops-1.events"] == "$SKIPPER_WEBHOOKS_OPS_1_EVENTS"
    assert origins["webhooks.ops-1.timeout_s"] == "default"


def test_a_secret_of_such_a_table_may_stand_in_the_environment_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = HOOK.splitlines()
    write(project, "\n".join(line for line in lines if "secret" not in line))
    assert "skipper.toml:3: webhooks.ops-1 needs secret = …" in error_of(project)
    monkeypatch.setenv("SKIPPER_WEBHOOKS_OPS_1_SECRET", "whsec_" + "c2Vz" * 8)
    secret = load(project)[0].webhooks["ops-1"].secret
    assert secret.get_secret_value() == "whsec_" + "c2Vz" * 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[webhooks.ops]\n", "skipper.toml:1: webhooks.ops needs url = …"),
        ("[webhooks]\nops = 3\n", "skipper.toml:2: webhooks.ops: Input should be a valid dict"),
        ("webhooks = 3\n", "skipper.toml:1: webhooks holds tables: write [webhooks.NAME]."),
        (HOOK + "event = ['failed']\n", "did you mean 'webhooks.ops-1.events'?"),
        (HOOK + "events = ['done']\n", "skipper.toml:5: webhooks.ops-1.events"),
        (HOOK.replace("ops-1", "Ops"), "skipper.toml:3: webhooks.Ops: use lower-case letters"),
        (HOOK.replace("https", "http"), "skipper.toml:3: webhooks.ops-1.url: plain http"),
    ],
)
def test_what_is_wrong_in_such_a_table_is_told_with_its_place(
    project: Path, text: str, words: str
) -> None:
    write(project, text)
    assert words in error_of(project)


@pytest.mark.parametrize("line", ["url = 'sesame'", "secret = 'sesame'"])
def test_what_is_wrong_with_a_secret_of_a_webhook_is_told_without_it(
    project: Path, line: str
) -> None:
    kept = [each for each in HOOK.splitlines() if not each.startswith(line.partition(" ")[0])]
    write(project, "\n".join([*kept, line]))
    message = error_of(project)
    assert "sesame" not in message
    assert "c2Vz" not in message


def test_secrets_of_webhooks_are_shown_nowhere(project: Path) -> None:
    write(project, HOOK)
    settings, _ = load(project)
    assert "c2Vz" not in str(dict(leaves(settings)))
    assert dict(leaves(settings))["webhooks.ops-1.secret"] == SECRET_MASK
    assert "c2Vz" not in repr(settings)


def test_plain_http_is_for_those_who_allow_private_addresses(project: Path) -> None:
    write(project, HOOK.replace("https", "http") + "allow_private = true\n")
    assert not load(project)[0].webhooks["ops-1"].is_encrypted


def test_webhooks_are_handed_on_whole(project: Path) -> None:
    write(project, HOOK + "events = ['failed']\n")
    settings, _ = load(project)
    dump(settings, project / "settings.json")
    assert restore(project / "settings.json") == settings


# --- where the project is ---


def test_the_project_is_the_nearest_folder_with_a_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "")
    inner = project / "functions" / "more"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert find_project() == project
    (project / "skipper.toml").unlink()
    assert find_project() == inner


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingsError, match="cannot be found"):
        find_project()


# --- verbs that need a part of it ---

BROKEN = """
[gateway]
port = 9001

[webhooks.ops]
url = "https://ops.example.com"

[pools.cpu]
slots = -1

[nonsense]
a = 1
"""


def test_what_a_verb_does_not_use_may_be_wrong(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, BROKEN)
    monkeypatch.setenv("SKIPPER_NONSENSE", "1")
    monkeypatch.setenv("SKIPPER_BROKER_URL", "nonsense://")
    monkeypatch.setenv("SKIPPER_GATEWAY_WORKERS", "2")
    gateway = load_sections(project, "gateway").gateway
    assert (gateway.port, gateway.workers) == (9001, 2)
    error_of(project)


@pytest.mark.parametrize("text", ["[gateway", "[gateway]\nprot = 1\n", "\xff"])
def test_nothing_in_the_file_keeps_a_verb_that_uses_none_of_it(text: str, project: Path) -> None:
    write(project, text)
    settings = load_sections(project)
    assert settings.run_dir == Settings(project_dir=project).run_dir


@pytest.mark.parametrize("text", ["[gateway", "[gateway]\nprot = 1\n", "[gateway]\nport = 'x'\n"])
def test_what_it_uses_must_be_right(text: str, project: Path) -> None:
    write(project, text)
    with pytest.raises(SettingsError, match=r"skipper\.toml|gateway"):
        load_sections(project, "gateway")


def test_a_variable_of_what_it_uses_must_be_right(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_PROT", "1")
    with pytest.raises(SettingsError, match="did you mean 'SKIPPER_GATEWAY_PORT'"):
        load_sections(project, "gateway")


def test_what_others_can_reach_without_a_key_can_be_asked_how_it_is(project: Path) -> None:
    # the keys may stand in variables of the service that runs the tree
    write(project, "[gateway]\nhost = '0.0.0.0'\n")
    assert load_sections(project, "gateway").gateway.keys == ()


# --- what is written about settings ---

ROOT = Path(__file__).parents[3]


def test_the_repositorys_file_shows_every_setting_with_its_default(project: Path) -> None:
    text = (ROOT / "skipper.toml").read_text("utf-8")
    of_samples = {name for name in load(ROOT)[1] if name.startswith("models.boston.")}
    assert load(ROOT)[1].keys() - of_samples == load(project)[1].keys()
    text = re.sub(r"^\[models\.boston\]\n.+\n", "", text, flags=re.MULTILINE)
    write(project, re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE))
    settings, origins = load(project)
    assert "default" not in origins.values()
    defaults = Settings(project_dir=project, run=module.RunSettings(reload=True))
    assert dict(leaves(settings)) == dict(leaves(defaults))


def test_the_settings_page_names_every_setting(project: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    names = [name for name, _ in leaves(load(project)[0]) if not name.startswith("pools.gpu.")]
    names += ["schedules.NAME.…", *module.ScheduleSettings.model_fields]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_both_show_every_setting_of_a_webhook(project: Path) -> None:
    lines = (ROOT / "skipper.toml").read_text("utf-8").splitlines()
    start = lines.index("# [webhooks.ops]")
    end = lines.index("", start)
    table = [line.removeprefix("# ") for line in lines[start:end]]
    write(project, "\n".join(table).replace("whsec_…", "whsec_" + "c2Vz" * 8))
    settings, origins = load(project)
    names = [name for name in origins if name.startswith("webhooks.")]
    assert "default" not in {origins[name] for name in names}
    shown = settings.webhooks["ops"]
    assert shown == type(shown)(url=shown.url, secret=shown.secret)
    page = (ROOT / "docs" / "webhooks.md").read_text("utf-8")
    assert [name for name in type(shown).model_fields if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('tls_cert = "a"', "gateway.tls_cert is set and gateway.tls_key is not"),
        ('tls_key = "a"', "gateway.tls_key is set and gateway.tls_cert is not"),
        ('socket = "s"\ntls_cert = "a"\ntls_key = "b"', "nothing on a unix socket is encrypted"),
        ('trusted_proxies = ["proxy.internal"]', "write an address"),
        ('root_path = "/v1"', "a path of the gateway's own"),
    ],
)
def test_what_cannot_stand_before_a_gateway_is_refused(project: Path, text: str, said: str) -> None:
    write(project, f"[gateway]\n{text}\n")
    assert said in error_of(project)
