"""Where the hub is, as a person writes it."""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from apexbridge_trio.errors import ConfigInvalid

PATH: Final = "/abp-distributed-server"
_SCHEMES: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class HubAddress(Struct, frozen=True):
    """A hub's node channel.

    Attributes:
        path: Of the upgrade; the key is never part of it.
    """

    host: str
    port: int
    is_tls: bool
    path: str = PATH

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"


def parse_hub(url: str) -> HubAddress:
    """Read an address such as ``http://hub.local:8088`` or ``wss://home.example/apex``.

    Raises:
        ConfigInvalid: It is none, or it holds a key: those do not belong on a command line.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:  # such as a bracket that is not closed; what it says may repeat a key
        raise ConfigInvalid("--hub: it can not be read as an address") from None
    if parts.scheme not in _SCHEMES:
        raise ConfigInvalid(f"--hub: {parts.scheme}:// is none of {', '.join(_SCHEMES)}")
    if parts.username or parts.password or parts.query or parts.fragment or "_key=" in parts.path.lower():
        raise ConfigInvalid("--hub: an address and no more; the key belongs into the file of --key-file")
    if not parts.hostname:
        raise ConfigInvalid("--hub: there is no host in it")
    base = parts.path.rstrip("/").removesuffix(PATH)
    return HubAddress(parts.hostname, _port(parts), parts.scheme in {"https", "wss"}, base + PATH)


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _SCHEMES[parts.scheme]
    except ValueError as fault:
        raise ConfigInvalid(f"--hub: {fault}") from None
