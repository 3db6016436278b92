"""Reads ``config.toml`` into one frozen snapshot, or tells everything that is wrong with it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from apexbridge_trio.config.checks import Fault, find_faults
from apexbridge_trio.config.lines import Place
from apexbridge_trio.config.needs import Check
from apexbridge_trio.config.places import FILE, named, read_regular, shipped
from apexbridge_trio.config.schema import Callbacks, Config, Mcp, Trigger, Upstream
from apexbridge_trio.config.secret import (
    Secret,
    find_secret_file,
    is_readable_by_others,
    secret_from_env,
    secret_from_file,
)
from apexbridge_trio.config.toml import Reader
from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import get_logger
from apexbridge_trio.redaction import MASK, hide

# A home with a hundred providers has 50 KB; each of the revisions that are kept may be as large.
MAX_FILE_BYTES: Final = 262_144

log = get_logger("config")

# An entry that may have a key of its own.
Keyed = TypeVar("Keyed", Upstream, Mcp)

# The arrays of tables whose url may be a key, and is shown without its path.
ADDRESSED: Final = (("triggers",), ("plugins", "mcp"))

# Of a path, what is shorter is a word, and so is what has no digit: hiding it would blot it out everywhere.
_SHORTEST_KEY: Final = 16
_SECRET_HEADER = re.compile(r"auth|cookie|key|secret|token", re.IGNORECASE)


def load(path: Path | None, *, env: Mapping[str, str], also: Check | None = None) -> Config:
    """Read, check and complete a config; secrets are resolved and hidden from the log.

    Args:
        path: The file; without one, the shipped defaults. Relative names in it are relative to it.
        env: Where ``api_key_env`` and ``$CREDENTIALS_DIRECTORY`` are looked up.
        also: Looks at it, too; see `find_needs`.

    Raises:
        ConfigInvalid: With one line for each fault: ``config.toml:14: chat.max_round: unknown
            key; did you mean max_rounds?``.
    """
    path = path or shipped(FILE)
    return config_of(text_of(read_bytes(path), path.name), path.name, path.absolute().parent, env, also)


def config_of(text: str, name: str, base: Path, env: Mapping[str, str], also: Check | None = None) -> Config:
    """Return the config that a text says; blocks, as it reads the files with secrets.

    Args:
        text: All of it.
        name: What it is called in a fault.
        base: What relative names in it are relative to.
        env: See `load`.
        also: See `load`.

    Raises:
        ConfigWrong: See `load`.
    """
    reader = Reader(name, text)
    return _checked(reader, reader.read(Config), base, env, also)


def config_of_values(values: object, base: Path, env: Mapping[str, str], also: Check | None = None) -> Config:
    """Return the config that plain values say; see `config_of`. Its faults have no lines."""
    reader = Reader("", "")
    return _checked(reader, reader.take(Config, values), base, env, also)


def _checked(
    reader: Reader, config: Config | None, base: Path, env: Mapping[str, str], also: Check | None
) -> Config:
    if config is not None:
        find_faults(config, reader.fault)
        if also is not None:
            also(config, reader.fault)
        config = _complete(config, base, env, reader.fault)
    if config is None or reader.wrongs:
        raise ConfigWrong(reader)
    return config


class ConfigWrong(ConfigInvalid):
    """A config with faults, each with its path and line.

    Attributes:
        wrongs: The faults.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__("\n".join(reader.faults))
        self.wrongs = tuple(reader.wrongs)


def public(config: Config) -> dict[str, Any]:
    """Return a config as plain values to be shown: keys and the values of headers are masked."""
    shown: dict[str, Any] = msgspec.to_builtins(config, enc_hook=repr)
    for upstream in shown["upstreams"]:
        upstream["headers"] = dict.fromkeys(upstream["headers"], MASK)
    for entry in [*shown["triggers"], *shown["plugins"]["mcp"]]:
        entry["url"] = without_path(entry["url"])
    return shown


def without_path(url: str) -> str:
    """Return where a webhook or an MCP server is; who knows the rest of its address may often use it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{MASK}" if url else ""


def editable(config: Config) -> dict[str, Any]:
    """Return what `public` does, but for what is not of the file: it may be sent back as a patch.

    Folders are absolute names here, whatever the file says.
    """
    shown = public(config)
    del shown["callbacks"]["signing_secrets"]
    for entry in [*shown["upstreams"], *shown["plugins"]["mcp"]]:
        del entry["api_key"]
    for entry in shown["triggers"]:
        del entry["secret"]
    return shown


def read_bytes(path: Path) -> bytes:
    """Return a whole config file, as it is.

    Raises:
        ConfigInvalid: It can not be read, or is too large to be one.
    """
    data = read_regular(path, MAX_FILE_BYTES)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigInvalid(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
    return data


def text_of(data: bytes, name: str) -> str:
    """Return a file's text without its byte order mark; line ends stay.

    Raises:
        ConfigInvalid: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ConfigInvalid(f"{name}: byte {fault.start} is not UTF-8") from None


def _complete(config: Config, base: Path, env: Mapping[str, str], fault: Fault) -> Config:
    """Fill in what only the machine knows: folders as absolute paths, and secrets."""
    directories = [
        _folder(name, ("plugins", "directories", number), base, fault)
        for number, name in enumerate(config.plugins.directories)
    ]
    for server in config.plugins.mcp:
        _hide_address(server.url)
    mcp = [
        _with_key(server, ("plugins", "mcp", number), base, env, fault)
        for number, server in enumerate(config.plugins.mcp)
    ]
    plugins = msgspec.structs.replace(config.plugins, directories=[str(one) for one in directories], mcp=mcp)
    for upstream in config.upstreams:
        _hide_headers(upstream)
    upstreams = [
        _with_key(upstream, ("upstreams", number), base, env, fault)
        for number, upstream in enumerate(config.upstreams)
    ]
    callbacks = _with_signing_secrets(config.callbacks, base, env, fault)
    triggers = [
        _with_secret(trigger, ("triggers", number), base, env, fault)
        for number, trigger in enumerate(config.triggers)
    ]
    return msgspec.structs.replace(
        config, plugins=plugins, upstreams=upstreams, callbacks=callbacks, triggers=triggers
    )


def _folder(name: str, place: Place, base: Path, fault: Fault) -> Path:
    """Find a folder of the config; what may not be looked into is as bad as none."""
    try:
        path = named(name, base)
        with os.scandir(path):
            return path
    except ConfigInvalid as wrong:
        fault(place, wrong.message)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        fault(place, "there is no such folder")
    except OSError as wrong:
        fault(place, f"can not look into this folder: {wrong.strerror}")
    return base


def _with_secret(trigger: Trigger, place: Place, base: Path, env: Mapping[str, str], fault: Fault) -> Trigger:
    """Find what a webhook is signed with; what its address holds besides a host may be a key too."""
    _hide_address(trigger.url)
    try:
        if trigger.secret_file:
            return msgspec.structs.replace(trigger, secret=_secret_of_file(trigger.secret_file, base, env))
        if trigger.secret_env:
            return msgspec.structs.replace(trigger, secret=secret_from_env(trigger.secret_env, env))
    except ConfigInvalid as wrong:
        fault((*place, "secret_file" if trigger.secret_file else "secret_env"), wrong.message)
    return trigger


def _with_signing_secrets(
    callbacks: Callbacks, base: Path, env: Mapping[str, str], fault: Fault
) -> Callbacks:
    secrets: dict[str, list[Secret]] = {}
    for plugin, names in callbacks.signing_secret_files.items():
        for number, name in enumerate(names):
            try:
                secrets.setdefault(plugin, []).append(_secret_of_file(name, base, env))
            except ConfigInvalid as wrong:
                fault(("callbacks", "signing_secret_files", plugin, number), wrong.message)
    return msgspec.structs.replace(callbacks, signing_secrets=secrets)


def _hide_address(url: str | None) -> None:
    """Keep from the log what of an address may be a key: all of its query, and long parts of its path."""
    path, _, query = (url or "").partition("?")
    hide(query)
    for part in path.split("/")[3:]:
        if len(part) >= _SHORTEST_KEY and any(one.isdigit() for one in part):
            hide(part)


def _hide_headers(upstream: Upstream) -> None:
    for name, value in upstream.headers.items():
        if _SECRET_HEADER.search(name):
            hide(value)


def _with_key(entry: Keyed, place: Place, base: Path, env: Mapping[str, str], fault: Fault) -> Keyed:
    key = "api_key_file" if entry.api_key_file else "api_key_env"
    try:
        return msgspec.structs.replace(entry, api_key=_key_of(entry, base, env))
    except ConfigInvalid as wrong:
        fault((*place, key), wrong.message)
        return entry


def _key_of(entry: Upstream | Mcp, base: Path, env: Mapping[str, str]) -> Secret | None:
    if entry.api_key_file:
        return _secret_of_file(entry.api_key_file, base, env)
    return secret_from_env(entry.api_key_env, env) if entry.api_key_env else None


def _secret_of_file(name: str, base: Path, env: Mapping[str, str]) -> Secret:
    path = find_secret_file(name, beside=base, env=env)
    secret = secret_from_file(path)
    if is_readable_by_others(path):
        log.warning("a secret is readable by every user of this machine", file=str(path))
    return secret
