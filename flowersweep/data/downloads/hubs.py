"""Download a data set that is named by a library's catalogue; each error says what to do next."""

from __future__ import annotations

import os
from pathlib import Path

from flowersweep.errors import DataError


def huggingface(cache: Path, *, name: str | None = None) -> str:
    """Download the Parquet files of a data set on Hugging Face's hub; return their folder.

    They lie in the library's own cache (HF_HOME), and nowhere else.

    Args:
        cache: Not used.
        name: ``OWNER/NAME``, or ``OWNER/NAME:SUBSET`` where there are several; a local folder is
            read as the library reads it.

    Raises:
        DataError: The library is not installed, or there is no such data set, or no Parquet in it.
    """
    path, _, subset = _required(name, "huggingface", "OWNER/NAME").partition(":")
    try:
        from datasets import DownloadManager, load_dataset_builder
    except ImportError as error:
        raise _not_installed("huggingface", "datasets", str(name)) from error
    try:
        files = load_dataset_builder(path, subset or None).config.data_files or {}
        places = DownloadManager(record_checksums=False).download(dict(files))
    # Any exception: the library has dozens, of its own and of the network.
    except Exception as error:
        raise _refused("huggingface", str(name), error) from error
    paths = [str(place) for split in places.values() for place in split]
    if not paths or not all(place.endswith(".parquet") for place in paths):
        kind = Path(paths[0]).suffix if paths else "no"
        raise DataError(
            f"data.path={name} holds {kind} files, and data=huggingface reads Parquet: download it "
            f"(hf download --repo-type dataset {path} --local-dir DIR), then data=folder "
            "data.dir=DIR, or data=csv"
        )
    return os.path.commonpath([os.path.dirname(place) for place in paths])


def tfds(cache: Path, *, name: str | None = None) -> str:
    """Download and prepare a data set of TensorFlow Datasets; return its folder of TFRecords.

    It lies in the library's own folder (TFDS_DATA_DIR), and nowhere else.

    Args:
        cache: Not used.
        name: ``NAME``, ``NAME/CONFIG`` or ``NAME:VERSION``.

    Raises:
        DataError: The library is not installed, or there is no such data set.
    """
    name = _required(name, "tfds", "NAME")
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise _not_installed("tfds", "tensorflow_datasets", name) from error
    try:
        builder = tensorflow_datasets.builder(name)
        builder.download_and_prepare(file_format="tfrecord")
    # Any exception: builders are code of their own, and the network has many more.
    except Exception as error:
        raise _refused("tfds", name, error) from error
    return str(builder.data_dir)


def _required(name: str | None, option: str, shape: str) -> str:
    if not name:
        raise DataError(
            f"data={option} has no images. Set data.path={shape} to download a data set, or "
            "data.dir=PATH for one that is here"
        )
    return name


def _not_installed(option: str, library: str, name: str) -> DataError:
    return DataError(
        f"data.path={name} is no folder here, and {library} is not installed to download it: pip "
        f"install 'flowersweep[{option}]'"
    )


def _refused(option: str, name: str, error: Exception) -> DataError:
    lines = str(error).strip().splitlines()
    reason = lines[0][:300] if lines else type(error).__name__
    return DataError(
        f"data.path={name} is no folder here, and could not be downloaded: {reason}. Check the "
        f"name, the network and your access to it, or set data.dir=PATH"
    )
