"""Where MLflow keeps the runs: URIs, and what of them may be shown."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.run_log_schema import DATABASE_FILE, DEFAULT_STORAGE

SECRET = "***"


def default_tracking_uri(storage: Path = DEFAULT_STORAGE) -> str:
    """Return MLFLOW_TRACKING_URI if it is set, else a sqlite database in the storage folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or home_tracking_uri(storage)


def home_tracking_uri(storage: Path = DEFAULT_STORAGE) -> str:
    """Return the URI of the sqlite database in a storage folder."""
    return f"sqlite:///{(storage / DATABASE_FILE).resolve()}"


def sqlite_path(tracking_uri: str) -> Path:
    """Return the file of a `sqlite:///` URI."""
    return Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0])


def without_secrets(text: str, tracking_uri: str) -> str:
    """Return a text to print with the tracking URI's password and query, if it holds them, replaced by SECRET."""
    public, secrets = _hide_secrets(tracking_uri.replace("#", "%23"))  # to SQLAlchemy a # may be part of a password
    text = text.replace(tracking_uri, public.replace("%23", "#"))
    for secret in secrets:
        for written in (secret, secret.replace("%23", "#"), unquote(secret)):
            if len(written) > 3:
                text = text.replace(written, SECRET)
    return text


def _hide_secrets(uri: str) -> tuple[str, list[str]]:
    """Return a URI as it may be shown, and what is not; of one that can be read in several ways its kind alone."""
    kind, _, rest = uri.partition("://")
    is_web, unclear = kind in ("http", "https"), f"{kind}://{SECRET}"
    # As SQLAlchemy reads it, for which a password may hold what ends a host elsewhere.
    if not is_web and (found := re.match("([^:/]*):([^@]*)@(.*)", rest, re.DOTALL)):
        user, password, place = found.groups()
        place, has_query, _ = place.partition("?")
        if "?" in password or "@" in place:
            return unclear, [password, rest[found.start(2) : rest.rindex("@")]]
        return f"{kind}://{user}:{SECRET}@{place}" + f"?{SECRET}" * bool(has_query), [password]
    try:
        parts = urlsplit(uri)
    except ValueError:
        return unclear if "@" in uri else uri, []
    if is_web and "@" in parts.path:
        return unclear, []
    public = uri
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        hidden = f"{user.partition(':')[0]}:{SECRET}" if ":" in user else SECRET
        public = public.replace(parts.netloc, f"{hidden}@{host}")
    if parts.query:
        public = public.replace(f"?{parts.query}", f"?{SECRET}")
    return public, [parts.password or ""]


def name_store(store: str, storage: Path = DEFAULT_STORAGE) -> list[str]:
    """Return the option for a store, given as it may be shown, or none where a command goes there by itself."""
    default = default_tracking_uri(storage)
    if store == default == home_tracking_uri(storage):
        return []
    if SECRET in store and store == without_secrets(default, default):
        return []  # the variable holds what is hidden here
    return ["--tracking-uri", store]
