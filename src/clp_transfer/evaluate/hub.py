"""Which revision of a hub model is meant, asked before anything heavy is imported."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from clp_transfer.errors import UserError

SECONDS = 15.0


@lru_cache
def resolved(name: str, revision: str | None) -> str:
    """The commit of a hub model's branch, tag or commit (null: `main`).

    Where the hub does not answer, the commit that this machine fetched last. Raises UserError naming the model where
    there is none, where the model does not exist or is gated, and for a name that can be no hub id.
    """
    from huggingface_hub import HfApi, constants, errors
    from huggingface_hub.file_download import repo_folder_name

    where = f"the hub model {name}" + (f", revision {revision}" if revision else "")
    try:
        return str(HfApi().model_info(name, revision=revision, timeout=SECONDS).sha)
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
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.HTTPError, OSError) as error:
        fetched = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        mark = fetched / "refs" / (revision or "main")
        if mark.is_file():
            return mark.read_text(encoding="utf-8").strip()
        if revision and (fetched / "snapshots" / revision).is_dir():
            return revision
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{where} is not on this machine, and the hub cannot be reached ({reason})",
            f"go online, unset HF_HUB_OFFLINE, or fetch it elsewhere (`hf download {name}`) and give the folder",
        ) from error
