"""What this machine lacks for a hub to start with a config."""

import errno
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from apexbridge_trio import installation
from apexbridge_trio.config import Config, Server, Tracing, find_needs, why_not_bound
from apexbridge_trio.config.lines import written
from apexbridge_trio.log import capture

ENDPOINT = "http://127.0.0.1:4318"


def needs(config: Config, since: Config | None = None) -> Mapping[str, str]:
    found: dict[str, str] = {}
    find_needs(config, lambda place, what: found.update({written(place): what}), since=since)
    return found


def bound_to(bind: str) -> Config:
    return Config(server=Server(bind=bind))


@pytest.fixture
def no_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(installation._MODULES, "otel", ("json", "no_such_library.of_traces"))


@pytest.mark.parametrize("bind", ["192.0.2.1:8088", "[2001:db8::1]:8088", "198.51.100.7:0"])
def test_an_address_of_another_machine(bind: str) -> None:
    (what,) = needs(bound_to(bind)).values()
    assert what.startswith("this machine can not listen there: ")
    assert "server.bind" in needs(bound_to(bind), since=Config())


def test_an_address_that_is_in_force_is_not_looked_at_again() -> None:
    gone = bound_to("192.0.2.1:8088")
    assert needs(gone, since=gone) == {}
    assert needs(bound_to("127.0.0.1:0"), since=gone) == {}


def test_a_port_that_is_taken_may_be_free_by_then() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, capture() as lines:
        port = taken.getsockname()[1]
        assert needs(bound_to(f"127.0.0.1:{port}")) == needs(bound_to(f"0.0.0.0:{port}")) == {}
        assert (fault := why_not_bound("127.0.0.1", port)) is not None
        assert fault.errno == errno.EADDRINUSE
    assert [line["log_level"] for line in lines] == ["warning"] * 2
    assert why_not_bound("127.0.0.1", port) is None


def test_what_is_no_address_is_told_by_others() -> None:
    assert needs(bound_to("nonsense")) == {}


def test_traces_need_their_library(no_otel: Any) -> None:
    traced = Config(tracing=Tracing(endpoint=ENDPOINT))
    assert needs(traced)["tracing.endpoint"].startswith("needs a library that is not installed: ")
    assert needs(traced, since=Config()).keys() == {"tracing.endpoint"}
    assert needs(traced, since=traced) == needs(Config()) == {}


def test_with_their_library_they_need_no_more() -> None:
    assert needs(Config(tracing=Tracing(endpoint=ENDPOINT))) == {}
