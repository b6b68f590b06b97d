"""The Hugging Face Hub: is it there, is the repository, and which commit does a revision mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from requests.exceptions import RequestException

from recipe.errors import UsageError

# One question is asked before anything else, because the libraries themselves retry for 23 seconds and more, and print
# each try, when there is no Hub.
TIMEOUT_S = 6.0
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
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"no folder {name!r} here (looked for {path.resolve()})")
    return None


def resolve_commit(kind: str, name: str, revision: str) -> str:
    """Return the commit that a repository's revision means now, in one request of at most `TIMEOUT_S` seconds.

    Args:
        kind: "model" or "dataset".
        name: The repository, `owner/name`.
        revision: Commit, tag or branch. Returned as it is under HF_HUB_OFFLINE=1, where nothing can be asked.

    Raises:
        UsageError: The Hub cannot be reached, or has no such repository or revision for us.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return revision
    try:
        info = huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT_S)
    except huggingface_hub.errors.HFValidationError:
        raise UsageError(f"{name!r} is neither a folder here nor a {kind}'s name on the Hub (owner/name)") from None
    except RevisionNotFoundError:
        raise UsageError(f"the {kind} {name!r} has no revision {revision!r} on the Hub") from None
    except GatedRepoError:
        raise UsageError(f"the {kind} {name!r} is gated: ask for access on its page, then `hf auth login`") from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"the Hub has no {kind} {name!r} that you may read, and no folder here has that name"
        ) from None
    except (RequestException, HfHubHTTPError) as error:
        endpoint = huggingface_hub.constants.ENDPOINT
        raise UsageError(
            f"cannot reach the Hub at {endpoint} for the {kind} {name!r} ({type(error).__name__}). {OFFLINE_HELP}"
        ) from error
    return str(info.sha)


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
    except (OSError, ValueError, RequestException) as error:
        message = f"cannot read {what}: {str(error).strip().splitlines()[0]}"
        if revision is not None and huggingface_hub.constants.HF_HUB_OFFLINE:
            message += f" (HF_HUB_OFFLINE=1: only what was downloaded before is there). {OFFLINE_HELP}"
        raise UsageError(message) from error
