"""Nothing secret of a store's URI is shown, and all else is."""

import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.tracking_uri import without_secrets


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=4, max_size=30))
def test_passwords_of_stores_are_never_shown(password):
    quoted = urllib.parse.quote(password, safe="")
    uri = f"postgresql+psycopg2://someone:{quoted}@db.example.org:5432/runs"
    for text in (uri, f"could not connect to {uri}: refused", f"authentication of 'someone' with {quoted} failed"):
        assert quoted not in without_secrets(text, uri).replace("***", "")


@pytest.mark.parametrize("password", ["pa/ss-word", "pa?ss=word", "pa#ss&word", "pa[ss:word", "pa@ss/word"])
def test_passwords_that_are_not_quoted_are_not_shown_either(password):
    uri = f"postgresql://someone:{password}@db.example.org:5432/runs"
    for text in (uri, f"could not connect to {uri}: refused", f"authentication of 'someone' with {password} failed"):
        shown = without_secrets(text, uri)
        assert "***" in shown
        assert not any(part in shown for part in ("pa", "ss", "word"))


@pytest.mark.parametrize(
    ("uri", "shown", "password"),
    [
        (
            "postgresql://me:pass-word@host:5/db?name=x@y&sslpassword=z",
            "postgresql://me:***@host:5/db?***",
            "pass-word",
        ),
        ("postgresql://me:p%40ss%2Fword@host:5/db?sslpassword=z", "postgresql://me:***@host:5/db?***", "p@ss/word"),
        ("postgresql://me:p%40ss%2Fword@host:5/db?sslpassword=z", "postgresql://me:***@host:5/db?***", "p%40ss%2Fword"),
        ("postgresql://me:pass#word@host/db", "postgresql://me:***@host/db", "pass#word"),
        ("postgresql://me@corp:pass-word@host/db", "postgresql://me@corp:***@host/db", "pass-word"),
        ("postgresql://me@corp:pass/word@host/db", "postgresql://me@corp:***@host/db", "pass/word"),
        ("postgresql://me:pass-word@[::1]:5432/db", "postgresql://me:***@[::1]:5432/db", "pass-word"),
        ("postgresql://host:5432/db?user=me@example.org&password=z", "postgresql://***", ""),
        ("mysql+pymysql://me:pass-word@h/db?ssl_ca=/a@b/ca.pem", "mysql+pymysql://me:***@h/db?***", "pass-word"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dpass-word", "mssql+pyodbc:///?***", ""),
        ("http://me:pass-word@host:5000", "http://me:***@host:5000", "pass-word"),
        ("http://me:pass/word@host:5000", "http://***", ""),
        ("http://me:pass[word@host:5000", "http://***", ""),
        ("https://pass/word@host", "https://***", ""),
        ("https://token@host/path", "https://***@host/path", ""),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000", ""),
        ("http://[broken", "http://[broken", ""),
        ("sqlite:////home/some:one@host/number #1/mlflow.db", "sqlite:////home/some:one@host/number #1/mlflow.db", ""),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db", ""),
        ("databricks://profile", "databricks://profile", ""),
    ],
)
def test_what_is_shown_of_a_store(uri, shown, password):
    assert without_secrets(uri, uri) == shown
    text = f"cannot reach {uri} with {password or 'it'}"
    assert without_secrets(text, uri) == f"cannot reach {shown} with {'***' if password else 'it'}"
