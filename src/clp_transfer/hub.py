"""Models of the Hugging Face hub: what its errors mean to a user, and which commit is meant; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from clp_transfer.errors import UserError

SECONDS = 15.0


class Unreachable(UserError):
    """The hub does not answer, or what it says cannot be written down."""


@contextmanager
def model_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turn the library's errors about a model into UserError; Unreachable where the hub is silent."""
    from huggingface_hub import errors

    where = f"the hub model {name}" + (f", revision {revision}" if revision else "")
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{where} is gated", "accept its terms on its page, then log in (`hf auth login`) or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{where} does not exist", "look at its page for its branches and tags") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {name} here and no model of that name on the hub",
            "check the spelling; for a private model log in (`hf auth login`) or set HF_TOKEN",
        ) from error
    except errors.HFValidationError as error:
        raise UserError(f"there is no folder {name}, and it is no hub id", "give a folder or owner/model") from error
    except (
        *(errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HTTPError),
        OSError,
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Unreachable(
            f"{where} is not on this machine, and the hub cannot be reached ({reason})",
            f"go online, unset HF_HUB_OFFLINE, or fetch it elsewhere (`hf download {name}`) and give the folder",
        ) from error


@lru_cache
def resolved(name: str, revision: str | None) -> str:
    """The commit of a hub model's branch, tag or commit (null: `main`).

    Where the hub does not answer, the commit that this machine fetched last. Raises UserError naming the model where
    there is none, where the model does not exist or is gated, and for a name that can be no hub id.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        with model_errors(name, revision):
            return str(HfApi().model_info(name, revision=revision, timeout=SECONDS).sha)
    except Unreachable:
        fetched = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        mark = fetched / "refs" / (revision or "main")
        if mark.is_file():
            return mark.read_text(encoding="utf-8").strip()
        if revision and (fetched / "snapshots" / revision).is_dir():
            return revision
        raise
