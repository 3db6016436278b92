import os

from apexbridge_trio.agent import machine


def fail(*_):
    raise OSError("hidden")


def test_the_load_is_the_higher_of_both(monkeypatch):
    monkeypatch.setattr(machine, "cpus", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 9.0, 9.0))
    assert machine.load(0, 4) == 0.25
    assert machine.load(3, 4) == 0.75
    assert machine.load(9, 4) == 1
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    assert machine.load(0, 4) == 1


def test_what_a_sandbox_hides_is_left_out(monkeypatch):
    assert {"cpus", "loadAverage", "memoryTotal", "memoryFree", "agentMemory"} == machine.resources().keys()
    monkeypatch.setattr(os, "getloadavg", fail)
    monkeypatch.setattr(os, "sysconf", fail)
    assert machine.load(1, 4) == 0.25
    assert {"cpus", "loadAverage", "agentMemory"} == machine.resources().keys()
