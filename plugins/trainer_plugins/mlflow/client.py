"""MLflow's client: how it is connected, kept quiet, and made to give up within seconds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer import TrainerError, UsageError

KEY_LENGTH = 250
"""The longest name that MLflow takes."""


@contextmanager
def quiet(*, retries: int = 2, timeout: int = 30) -> Iterator[None]:
    """Wraps every call of MLflow: it logs nothing and gives up on a server within seconds, not minutes.

    Variables that the user has set keep their values. Passwords are removed from URIs in errors.
    """
    # MLflow reads it on import, so it stays set.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    own = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    added = [name for name in own if name not in os.environ]
    os.environ.update({name: own[name] for name in added})
    try:
        logger = _logger()
        level = logger.level
        logger.setLevel(max(level, logging.WARNING))
        try:
            yield
        except Exception as error:
            if without_password(str(error)) != str(error):
                # `from None`, because a traceback would show the original error too.
                raise TrainerError(without_password(str(error))) from None
            raise
        finally:
            logger.setLevel(level)
    finally:
        for name in added:
            os.environ.pop(name, None)


def _logger() -> logging.Logger:
    """MLflow's logger. Importing MLflow sets its level, so it is imported first."""
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise not_installed(error) from error
    return logging.getLogger("mlflow")


def not_installed(error: ImportError) -> UsageError:
    """The error if MLflow, or what its database needs, is missing: `mlflow-skinny` alone installs no SQL package."""
    return UsageError(
        f"MLflow, or what it needs, cannot be imported: {error}",
        where="plugin 'mlflow'",
        fix='Install it: pip install "gluon-trainer[mlflow]".',
    )


def connect(uri: str) -> Any:
    """A client for the tracking URI."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def exceptions() -> type[Exception]:
    """MLflow's own errors."""
    from mlflow.exceptions import MlflowException

    return MlflowException


def check_database(uri: str) -> None:
    """Connects once; MLflow itself would retry for minutes if there is no database."""
    if not _is_database(uri):
        return
    import sqlalchemy

    path = _sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _is_database(uri: str) -> bool:
    return re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:", uri) is not None


def _sqlite_path(uri: str) -> Path | None:
    import sqlalchemy

    database = sqlalchemy.make_url(uri).database if uri.startswith("sqlite") else None
    return Path(database).absolute() if database and database != ":memory:" else None


def artifacts_of(uri: str, experiment: str) -> str | None:
    """Where a new experiment keeps files: next to an SQLite database; None leaves the choice to the server.

    By default MLflow puts them into a folder below the current one.
    """
    path = _sqlite_path(uri) if _is_database(uri) else None
    return None if path is None else (path.parent / "mlartifacts" / key(experiment).replace("/", "_")).as_uri()


def without_password(text: str) -> str:
    """The text with the user and password of each URI in it replaced by …."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def key(name: str) -> str:
    """A name that MLflow accepts: some characters are not allowed, nor are parts that would make it another path."""
    plain = re.sub(r"[^\w.\- /]", "_", name)
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:KEY_LENGTH].rstrip("/") or "_"
