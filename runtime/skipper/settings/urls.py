"""What of a URL is secret, and which URLs are read alike by everybody who reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

SECRET_MASK = "********"  # noqa: S105 - what stands in a secret's place

_NAMING_USERS = frozenset({"amqp", "amqps", "redis", "rediss", "postgres", "postgresql"})
"""Where a user without a password is a name. Elsewhere it is a token as often."""
_PLAIN = frozenset(
    {
        *("application_name", "connect_timeout", "db", "dbname", "endpoint_url", "heartbeat"),
        *("host", "keepalives", "port", "protocol", "region", "ssl", "ssl_cert_reqs", "sslmode"),
        *("target_session_attrs", "timeout", "user", "virtual_host"),
    }
)
"""What is shown of a query. Anything else may be a signature, a token, a passphrase."""
_PASSWORD = re.compile(r"(://[^:@]*):(.*)@", re.DOTALL)
# The last @ ends the password, which may hold @, : and / of its own.
_USER = re.compile(r"://([^:/?#@]+)@")
_FRAGMENT = re.compile(r"#(.+)", re.DOTALL)
_ITEM = re.compile(r"([?&;])(?:([^=&;#]*)=)?([^&;#]+)")
_UNREADABLE = (
    "it cannot be read in one way only: in user, password and query, write / as %2F, ? as %3F, "
    "# as %23, @ as %40, % as %25, [ as %5B, ] as %5D, and what is not ASCII so, too"
)


def masked_url(url: str) -> str:
    """``url`` without its password, and without what may be secret in its query."""
    if "://" not in url:  # a path, or what somebody has taken for a URL
        return SECRET_MASK if re.search("[=@]", url) else url
    url = _PASSWORD.sub(rf"\1:{SECRET_MASK}@", url)
    if _scheme_of(url) not in _NAMING_USERS:
        url = _USER.sub(f"://{SECRET_MASK}@", url)
    return _FRAGMENT.sub(f"#{SECRET_MASK}", _ITEM.sub(_masked_item, url))


def secrets_in(url: str) -> Iterator[str]:
    """What :func:`masked_url` masks, as it is written and as it is meant."""
    found = [url] if masked_url(url) == SECRET_MASK else []
    if password := _PASSWORD.search(url):
        found += [password[2], *re.split("[/?#@:]", password[2])]
    if _scheme_of(url) not in _NAMING_USERS:
        found += _USER.findall(url)
    found += _FRAGMENT.findall(url)
    found += [item[3] for item in _ITEM.finditer(url) if (item[2] or "").lower() not in _PLAIN]
    for text in found:
        yield from {text, unquote(text)}


def check_readable(url: str) -> None:
    """Raise ValueError, without any of ``url``, unless all libraries find the same parts in it.

    A password with a character that ends it is a wrong port to one and a host to the next, and they
    say so, password included.
    """
    try:
        parts = urlsplit(url)
        is_whole = parts.port is None or parts.port >= 0
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    rest = url.partition("://")[2]
    beyond = rest.removeprefix(parts.netloc) if parts.netloc else ""
    if not (
        is_whole
        and re.fullmatch("[!-~]+", url)
        and parts.netloc.count("@") <= 1
        and "@" not in beyond
        and not parts.fragment
        and not re.search(r"%(?![0-9A-Fa-f]{2})", parts.netloc.rpartition("@")[0])
    ):
        raise ValueError(_UNREADABLE)


def _scheme_of(url: str) -> str:
    return re.split("[:+]", url, maxsplit=1)[0].lower()


def _masked_item(item: re.Match[str]) -> str:
    name = "" if item[2] is None else f"{item[2]}="
    is_plain = (item[2] or "").lower() in _PLAIN
    return f"{item[1]}{name}{item[3] if is_plain else SECRET_MASK}"
