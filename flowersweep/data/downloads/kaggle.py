"""Download the images of a Kaggle competition with kagglehub; each error says what to do next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowersweep.errors import DataError, did_you_mean

_CACHE = "KAGGLEHUB_CACHE"
_TOKEN = (
    "Create an API token at https://www.kaggle.com/settings, then set KAGGLE_API_TOKEN, or "
    "KAGGLE_USERNAME and KAGGLE_KEY,"
    " or save it as ~/.kaggle/kaggle.json. Or download the files yourself and set data.dir=PATH."
)


def download(cache: Path, *, competition: str, folder: str) -> Path:
    """Download the files of ``competition`` once into ``cache``; return their subfolder ``folder``.

    In a Kaggle notebook the files are mounted instead. If KAGGLEHUB_CACHE is set, kagglehub's own
    cache is used. A broken download resumes where it stopped.

    Raises:
        DataError: kagglehub is not installed, there is no token, no network, no such competition or
            folder, or the rules are not accepted. The message says what to do.
    """
    root = Path(_download(cache, competition))
    path = root / folder
    if not path.is_dir():
        names = [path.name for path in root.iterdir() if path.is_dir()]
        raise DataError(
            f"competition {competition} has no folder {folder} in {root}. "
            f"{did_you_mean(folder, names, 'Folders')}"
        )
    return path


def _download(cache: Path, competition: str) -> str:
    try:
        import kagglehub
        from kagglehub import exceptions
        from requests import RequestException
    except ImportError as error:
        raise DataError(
            f"data of competition {competition}: kagglehub is not installed. pip install kagglehub"
        ) from error
    page = f"https://www.kaggle.com/competitions/{competition}"
    failure = f"cannot download competition {competition}:"
    try:
        with _cache_in(cache / "kagglehub"):
            return str(kagglehub.competition_download(competition))
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        raise DataError(f"{failure} there are no Kaggle credentials ({error}). {_TOKEN}") from error
    except exceptions.KaggleApiHTTPError as error:
        raise DataError(f"{failure} {_refusal(error.response.status_code, page)}") from error
    except RequestException as error:
        raise DataError(
            f"{failure} no answer from Kaggle ({error}). Check the network, or set data.dir=PATH."
        ) from error
    except (
        exceptions.BackendError,
        exceptions.KaggleEnvironmentError,
        exceptions.DataCorruptionError,
    ) as error:
        raise DataError(
            f"{failure} {error} Try again; in a Kaggle notebook add the competition by 'Add Input' "
            "and set data.dir."
        ) from error
    except ValueError as error:  # an unreadable kaggle.json, or a handle with a slash in it
        raise DataError(
            f"{failure} {error}. The name is the last part of the competition's address, {page}. "
            f"{_TOKEN}"
        ) from error


def _refusal(status: int, page: str) -> str:
    if status == 401:
        return f"Kaggle does not know the API token (HTTP 401); it is wrong or expired. {_TOKEN}"
    if status == 403:
        return (
            f"Kaggle refuses (HTTP 403): the rules are not accepted. Open {page}/rules, accept "
            f"them, and try again. {_TOKEN}"
        )
    if status == 404:
        return (
            "there is no such competition (HTTP 404). The name is the last part of its address, "
            f"{page}."
        )
    return (
        f"Kaggle answers HTTP {status}. Try again later, or download the files at {page}/data and "
        "set data.dir=PATH."
    )


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Let kagglehub keep its files in ``folder``.

    Not with ``output_dir=``: that cannot resume a broken download.
    """
    if _CACHE in os.environ:
        yield
        return
    os.environ[_CACHE] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ[_CACHE]
