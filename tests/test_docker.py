"""The files of `docker/` fit the code; no daemon is needed to see it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from bytewax import run as bytewax_run

from flows.settings import PREFIX, HybridSettings, ImageSettings, TextSettings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
FLOW: dict[str, Any] = COMPOSE["services"]["flow"]
Settings: TypeAlias = TextSettings | HybridSettings | ImageSettings
SETTINGS: dict[str, type[Settings]] = {
    "text_to_qdrant": TextSettings,
    "hybrid_to_qdrant": HybridSettings,
    "images_to_qdrant": ImageSettings,
}

REQUEST_AND_PAUSE_S = 60
"""What a write that is being tried may still take when the time to drain is over."""


def instructions(word: str) -> list[str]:
    """Give what stands after a word at the start of a line of the Dockerfile."""
    found: list[str] = re.findall(rf"^\s*{word}\s+(.+)$", DOCKERFILE, re.MULTILINE)
    return found


def exec_form(word: str) -> list[str]:
    [text] = instructions(word)
    words = json.loads(text)  # the shell form is no JSON, and would keep signals from Python
    assert isinstance(words, list)
    return words


def image_environment() -> dict[str, str]:
    pairs = [pair for line in instructions("ENV") for pair in line.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def seconds(duration: str) -> float:
    [(number, unit)] = re.findall(r"^(\d+)(s|m)$", duration)
    return float(number) * {"s": 1, "m": 60}[unit]


def told(text: str, flow: str) -> str:
    """Put the flow's name where the compose file takes it from the environment."""
    return text.replace("${FLOW:-text_to_qdrant}", flow)


@pytest.fixture(params=SETTINGS)
def flow(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def settings(flow: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read the settings as the flow's container would."""
    for name, value in {**image_environment(), **FLOW["environment"]}.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, told(value, flow))
    return SETTINGS[flow].from_environment()


def test_the_environment_of_the_container_is_accepted_whole(
    settings: Settings,
) -> None:
    assert settings.metrics_port is not None, "the health check asks for metrics"
    assert settings.dead_letter_topic, "a file in a container is gone with it"


def test_the_metrics_of_the_container_are_scraped_from_outside_of_it(settings: Settings) -> None:
    [scraped] = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])["scrape_configs"]
    [target] = scraped["static_configs"][0]["targets"]
    assert target == f"flow:{settings.metrics_port}"
    assert settings.metrics_host == "0.0.0.0"  # noqa: S104  of the container


def test_dead_letters_that_no_topic_takes_are_in_a_volume() -> None:
    place = Path(image_environment()[f"{PREFIX}DEAD_LETTER_FILE"])
    assert str(place.parent) in exec_form("VOLUME")


def test_the_topics_that_the_flow_reads_and_writes_are_made_before_it(
    settings: Settings,
) -> None:
    made = set(re.findall(r"--topic (\S+)", str(COMPOSE["services"]["topics"]["command"])))
    assert made == {*settings.kafka_topics, settings.dead_letter_topic}
    assert FLOW["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_the_container_is_killed_only_after_the_time_to_drain(
    settings: Settings,
) -> None:
    grace_s = seconds(FLOW["stop_grace_period"])
    assert settings.qdrant_timeout_s <= REQUEST_AND_PAUSE_S / 2
    assert grace_s > settings.drain_s + REQUEST_AND_PAUSE_S


def test_the_addresses_of_the_flow_are_services(
    settings: Settings,
) -> None:
    services = set(COMPOSE["services"])
    assert settings.kafka_brokers.partition(":")[0] in services
    assert settings.qdrant_url.removeprefix("http://").partition(":")[0] in services


def test_bytewax_accepts_the_command_line_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = exec_form("ENTRYPOINT")
    assert entry[-3:] == ["python", "-m", "bytewax.run"]
    assert run_with(exec_form("CMD"), monkeypatch) == "flows.text_to_qdrant"


def test_bytewax_accepts_the_command_line_of_every_flow(
    flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [told(word, flow) for word in FLOW["command"]]
    assert run_with(words, monkeypatch) == f"flows.{flow}"


def run_with(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Check what would run, and give its module."""
    monkeypatch.setattr(sys, "argv", ["bytewax.run", *words])
    arguments = bytewax_run._parse_args()  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
    module, _, factory = str(arguments.import_str).partition(":")
    assert callable(getattr(importlib.import_module(module), factory))
    assert str(arguments.recovery_directory) in volumes_of("flow")
    return module


def test_flows_share_neither_collection_nor_recovery_store() -> None:
    mark = "${FLOW:-text_to_qdrant}"
    assert mark in FLOW["environment"]["STREAM_COLLECTION"]
    assert mark in COMPOSE["volumes"]["recovery"]["name"]


def test_every_flow_that_the_compose_file_can_run_is_one_that_fills_a_collection() -> None:
    found = {path.stem for path in (ROOT / "flows").glob("*_to_qdrant.py")}
    assert set(SETTINGS) == found


def test_signals_reach_python_from_the_first_moment() -> None:
    assert exec_form("ENTRYPOINT")[:2] == ["tini", "--"]
    assert isinstance(FLOW["command"], list), "a shell would keep signals from Python"
    assert "entrypoint" not in FLOW


def test_the_recovery_store_is_made_once_before_the_flow_and_shared_with_it() -> None:
    recovery = COMPOSE["services"]["recovery"]
    [script] = recovery["command"]
    assert "part-0.sqlite3 ||" in script, "a second initialisation of a store fails"
    assert re.search(r"exec python -m bytewax\.recovery /data/recovery \d+$", script)
    assert "/data/recovery" in volumes_of("recovery")
    assert FLOW["depends_on"]["recovery"] == {"condition": "service_completed_successfully"}


def test_a_store_made_by_bytewax_has_the_file_that_the_script_looks_for(tmp_path: Path) -> None:
    from bytewax.recovery import init_db_dir

    init_db_dir(tmp_path, 4)  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
    assert (tmp_path / "part-0.sqlite3").is_file()


def test_what_the_flow_keeps_lies_on_volumes_that_its_user_owns() -> None:
    [declared] = instructions("VOLUME")
    assert set(json.loads(declared)) == volumes_of("flow")
    assert image_environment()["FASTEMBED_CACHE_PATH"] in volumes_of("flow")
    for folder in volumes_of("flow"):
        assert re.search(rf"install --directory --owner=stream .*{folder}\b", DOCKERFILE)


def test_every_volume_that_a_service_mounts_is_declared_and_used() -> None:
    mounted = {
        mount.partition(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
    }
    assert mounted == set(COMPOSE["volumes"])


def test_every_path_that_the_image_copies_is_there_and_not_ignored() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    paths = [path for line in instructions("COPY") for path in line.split()[:-1]]
    assert {"pyproject.toml", "fastembed_stream", "operators", "flows"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path
        matching = [rule for rule in rules if fnmatch(path, rule.removeprefix("!"))]
        assert matching[-1].startswith("!"), f"{path} is ignored by {matching[-1]!r}"


def test_the_context_of_the_image_is_the_root_of_the_project() -> None:
    for name in ("flow", "recovery"):
        build = COMPOSE["services"][name]["build"]
        assert (ROOT / "docker" / build["context"]).resolve() == ROOT
        assert ROOT / build["dockerfile"] == ROOT / "docker/Dockerfile"


def test_the_flow_does_not_run_as_root() -> None:
    assert instructions("USER")[-1] not in {"root", "0"}
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")


def test_the_health_check_asks_the_port_that_metrics_are_served_on() -> None:
    [check] = instructions("HEALTHCHECK")
    words = json.loads(check[check.index("CMD") + 3 :])
    compile(words[2], "HEALTHCHECK", "exec")
    assert f"{PREFIX}METRICS_PORT" in words[2]
    assert instructions("EXPOSE") == [image_environment()[f"{PREFIX}METRICS_PORT"]]


def test_every_image_is_pinned_and_the_base_is_a_python_that_bytewax_has() -> None:
    assert instructions("FROM") == ["python:3.12-slim"]
    own = {FLOW["image"]}
    images = {service["image"] for service in COMPOSE["services"].values()} - own
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+$", image), image


def test_the_server_of_the_compose_file_can_fence_writes() -> None:
    [(major, minor)] = re.findall(r":v(\d+)\.(\d+)", COMPOSE["services"]["qdrant"]["image"])
    assert (int(major), int(minor)) >= (1, 16)


def volumes_of(service: str) -> set[str]:
    return {mount.split(":")[1] for mount in COMPOSE["services"][service].get("volumes", [])}
