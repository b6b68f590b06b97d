"""Find repositories on the Hugging Face Hub, send files to one, and turn its errors into one line."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, validate_repo_id  # type: ignore[attr-defined]

from recipe.errors import UsageError, disk_refusal

# For one request before any other: without a Hub the libraries retry for 23 seconds and more, and print each try.
TIMEOUT_S = 5.0
OFFLINE_HELP = (
    "To run offline: set HF_HUB_OFFLINE=1 if it was downloaded before, give a local folder, "
    "or use --config quickstart, which needs no Hub"
)
# By type of error, a type before its base.
_REFUSALS = {
    HFValidationError: "{name!r} is neither a folder here nor a {kind}'s name on the Hub (owner/name)",
    RevisionNotFoundError: "the {kind} {name!r} has no revision {revision!r} on the Hub",
    GatedRepoError: "the {kind} {name!r} is gated: ask for access on its page, then `hf auth login`",
    RepositoryNotFoundError: "the Hub has no {kind} {name!r} that you may read, and no folder here has that name",
}


def local_folder(name: str) -> str | None:
    """Return the local folder that `name` means, or `None` if it may be a repository on the Hub.

    Raises:
        UsageError: It can only be a path (`./x`, `../x`, `/x`, `~/x`, `x/y/z`), and no folder is there.
    """
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():
        return str(path)
    if path.is_file():
        raise UsageError(f"{name} is a file, where a folder is needed; reviews in a file are given as --train_file")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"no folder {name!r} here (looked for {path.resolve()})")
    return None


def require_folder(name: str) -> str:
    """Return the local folder that `name` means; raise `UsageError` if there is none."""
    if folder := local_folder(name):
        return folder
    raise UsageError(f"no folder {name!r} here")


def resolve_commit(kind: str, name: str, revision: str) -> str:
    """Return the commit of a "model" or "dataset" at a revision; under HF_HUB_OFFLINE=1, from what was downloaded.

    Raises:
        UsageError: The Hub does not answer within `TIMEOUT_S` seconds, or has no such repository or revision for this
            user; offline, none was downloaded.
    """
    try:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            return _remembered_commit(kind, name, revision)
        info = huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT_S)
        with suppress(EntryNotFoundError):
            _remembered_commit(kind, name, revision)
        return str(info.sha)
    # The errors of requests, which huggingface_hub raises below 1.0, are `OSError`s.
    except (HFValidationError, OSError) as error:
        for type_, message in _REFUSALS.items():
            if isinstance(error, type_):
                raise UsageError(message.format(kind=kind, name=name, revision=revision)) from None
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            message = f"HF_HUB_OFFLINE=1, and the {kind} {name!r} was not downloaded before"
        else:
            message = f"cannot reach the Hub at {huggingface_hub.constants.ENDPOINT} for the {kind} {name!r}"
        raise UsageError(f"{message}. {OFFLINE_HELP}") from error


def _remembered_commit(kind: str, name: str, revision: str) -> str:
    # With this file, which the run needs anyway, huggingface_hub knows the revision's commit offline too.
    small_file = {"model": "config.json", "dataset": "README.md"}[kind]
    path = huggingface_hub.hf_hub_download(name, small_file, repo_type=kind, revision=revision, etag_timeout=TIMEOUT_S)
    return Path(path).parent.name


def find_file(location: str, name: str, revision: str | None) -> Path | None:
    """Return the path of a file of a folder, or of a model on the Hub at a commit; `None` if it has no such file.

    Raises:
        OSError: The Hub cannot be reached.
    """
    if revision is None:
        path = Path(location) / name
        return path if path.is_file() else None
    try:
        return Path(huggingface_hub.hf_hub_download(location, name, revision=revision, etag_timeout=TIMEOUT_S))
    except EntryNotFoundError as error:
        # Offline, no library can fetch it either; otherwise the Hub might have it, but does not answer.
        if isinstance(error, LocalEntryNotFoundError) and not huggingface_hub.constants.HF_HUB_OFFLINE:
            raise
        return None


@contextmanager
def one_line_errors(what: str, revision: str | None) -> Iterator[None]:
    """Turn a library's error into a `UsageError` that `what` cannot be read; the `revision` of a folder is `None`."""
    try:
        yield
    except UsageError:
        raise
    # A damaged file makes the libraries raise anything: safetensors and tokenizers have errors of their own.
    except Exception as error:
        if disk_refusal(error):
            raise
        # The library's own message often says only that something failed; its cause says what.
        cause = error.__cause__ or error
        if isinstance(cause, UsageError):
            raise cause from None
        reason = f"it has no {cause}" if isinstance(cause, KeyError) else str(cause).strip() or type(error).__name__
        message = f"cannot read {what}: {reason.splitlines()[0]}"
        if revision is not None and huggingface_hub.constants.HF_HUB_OFFLINE:
            message += f" (HF_HUB_OFFLINE=1: only what was downloaded before is there). {OFFLINE_HELP}"
        raise UsageError(message) from error


def require_name(name: str) -> None:
    """Raise a `UsageError` unless `name` is a repository's full name."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!r} is no model's name on the Hub: {error}") from error
    if "/" not in name:
        raise UsageError(f"{name!r} does not say whose it is on the Hub: give owner/{name}")


def require_token() -> None:
    """Raise a `UsageError` unless the Hub may be asked, and there is a token to ask it with."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise UsageError("HF_HUB_OFFLINE=1 is set: unset it to publish; --dry_run needs no Hub")
    if huggingface_hub.get_token() is None:
        raise UsageError("no token for the Hub: `hf auth login` with one that may write, or set HF_TOKEN")


def send(
    name: str,
    files: Mapping[str, Path | bytes],
    message: str,
    replaces: Callable[[str], bool],
    *,
    private: bool,
    overwrite: bool,
) -> str:
    """Send files to a model's repository in one commit, and return that commit's address.

    The repository is made if there is none. One that is empty, as after an upload that broke off, counts as none.

    Args:
        name: The repository's, `owner/name`.
        files: A file's path here, or its content, by its path there.
        replaces: Whether a file that stands there belongs to an earlier commit of this kind: it is removed, unless
            it is among `files`.
        private: Whether only the owner may read a repository that is made.
        overwrite: Whether it may hold files already.

    Raises:
        UsageError: The repository holds files and `overwrite` is false, it is public and `private` is true, or the Hub
            refuses or does not answer.
    """
    api = huggingface_hub.HfApi()
    if not sys.stderr.isatty():
        disable_progress_bars()
    with _refusals_in_one_line(name):
        found = _find_model(api, name)
        # The Hub makes the first file of each repository itself.
        files_there = {file.rfilename for file in (found.siblings if found else None) or []} - {".gitattributes"}
        if files_there and not overwrite:
            raise UsageError(f"{name} is on the Hub, with {len(files_there)} files: give --overwrite, or another name")
        if found is None:
            api.create_repo(name, private=private)
        elif private and not found.private:
            raise UsageError(f"{name} is on the Hub and public: make it private on its settings page first")
        gone = [path for path in sorted(files_there - files.keys()) if replaces(path)]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(path) for path in gone]
        operations += [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(name, operations, commit_message=message).commit_url


def _find_model(api: huggingface_hub.HfApi, name: str) -> huggingface_hub.ModelInfo | None:
    try:
        return api.model_info(name, timeout=TIMEOUT_S)
    except RepositoryNotFoundError:
        return None


@contextmanager
def _refusals_in_one_line(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises while it sends into a `UsageError` with the Hub's own reason."""
    try:
        yield
    # The errors of requests are `OSError`s; an upload's thread raises a `RuntimeError` from the one it met.
    except (OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        if disk_refusal(cause):
            raise
        if isinstance(cause, OSError) and not isinstance(cause, HfHubHTTPError):
            raise UsageError(f"cannot reach the Hub at {huggingface_hub.constants.ENDPOINT} to send {name}") from error
        reason = str(cause)
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            reason = f"{cause.response.status_code} {cause.server_message or cause.response.reason}"
        raise UsageError(f"the Hub refuses {name}: {' '.join(reason.split())}") from error
