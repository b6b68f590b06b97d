"""The Hugging Face Hub: is it there, is the repository, and which commit does a revision mean."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import huggingface_hub
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from requests.exceptions import RequestException

from recipe.errors import UsageError, disk_refusal

# One question is asked before anything else, because the libraries themselves retry for 23 seconds and more, and print
# each try, when there is no Hub.
TIMEOUT_S = 5.0
OFFLINE_HELP = (
    "To run offline: set HF_HUB_OFFLINE=1 if it was downloaded before, give a local folder, "
    "or use --config quickstart, which needs no Hub"
)


def local_folder(name: str) -> str | None:
    """Return the folder of this machine that `name` means, or `None` where it can be a repository on the Hub.

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


def resolve_commit(kind: str, name: str, revision: str) -> str:
    """Return the commit that a repository's revision means.

    Where the Hub does not answer within `TIMEOUT_S` seconds, nothing more is asked of it. Under HF_HUB_OFFLINE=1 only
    what was fetched before can tell.

    Args:
        kind: "model" or "dataset".
        name: The repository, `owner/name`.
        revision: Commit, tag or branch.

    Raises:
        UsageError: The Hub does not answer or has no such repository or revision for us; offline, none was fetched.
    """
    try:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            return _remembered_commit(kind, name, revision)
        info = huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT_S)
        with suppress(EntryNotFoundError):
            _remembered_commit(kind, name, revision)
        return str(info.sha)
    except LocalEntryNotFoundError as error:
        raise UsageError(_unreachable(kind, name)) from error
    except HFValidationError:
        raise UsageError(f"{name!r} is neither a folder here nor a {kind}'s name on the Hub (owner/name)") from None
    except RevisionNotFoundError:
        raise UsageError(f"the {kind} {name!r} has no revision {revision!r} on the Hub") from None
    except GatedRepoError:
        raise UsageError(f"the {kind} {name!r} is gated: ask for access on its page, then `hf auth login`") from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"the Hub has no {kind} {name!r} that you may read, and no folder here has that name"
        ) from None
    except (RequestException, OSError) as error:
        raise UsageError(_unreachable(kind, name)) from error


def _remembered_commit(kind: str, name: str, revision: str) -> str:
    """Return the commit by way of a small file that the run needs anyway.

    Once it was fetched, huggingface_hub knows offline too which commit the revision meant.
    """
    small_file = {"model": "config.json", "dataset": "README.md"}[kind]
    path = huggingface_hub.hf_hub_download(name, small_file, repo_type=kind, revision=revision, etag_timeout=TIMEOUT_S)
    return Path(path).parent.name


def _unreachable(kind: str, name: str) -> str:
    """Return the message for a Hub that gave nothing, now or before."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE=1, and the {kind} {name!r} was not downloaded before. {OFFLINE_HELP}"
    return f"cannot reach the Hub at {huggingface_hub.constants.ENDPOINT} for the {kind} {name!r}. {OFFLINE_HELP}"


@contextmanager
def one_line_errors(what: str, revision: str | None) -> Iterator[None]:
    """Turn what the libraries raise for a repository or folder they cannot read into a `UsageError`.

    Args:
        what: What is being read, for the message.
        revision: Of a repository on the Hub; `None` for a folder.

    Raises:
        UsageError: For whatever of that kind is raised inside.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, RequestException, DatasetsError) as error:
        if disk_refusal(error):
            raise
        # The library's own message often says only that something failed; its cause says what.
        cause = error.__cause__ or error
        if isinstance(cause, UsageError):
            raise cause from None
        reason = f"no column {cause}" if isinstance(cause, KeyError) else str(cause).strip() or type(error).__name__
        message = f"cannot read {what}: {reason.splitlines()[0]}"
        if revision is not None and huggingface_hub.constants.HF_HUB_OFFLINE:
            message += f" (HF_HUB_OFFLINE=1: only what was downloaded before is there). {OFFLINE_HELP}"
        raise UsageError(message) from error
