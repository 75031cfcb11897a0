"""The Hugging Face Hub: a folder goes up as it is, and comes down as it was."""

from __future__ import annotations

import os
from pathlib import Path

from attnzoo.errors import CheckpointError

__all__ = ["downloaded", "push_to_hub"]

#: What of a folder is shared: a run's folder holds much else.
SHARED = ("README.md", "*.safetensors", "config.json", "preprocessor_config.json")


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Upload a folder that `save_pretrained` wrote to a repository, which is made if need be.

    It goes by `huggingface_hub`, under the account of `hf auth login` or of `HF_TOKEN`, to
    `HF_ENDPOINT`. Of other files in the folder nothing is uploaded.

    Args:
        folder: to be shared.
        repo_id: `"user/name"`.
        private: whether a repository that is made is private.
        revision: branch; None is the main one.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder has no model card or no weights, or the hub refuses.
    """
    from huggingface_hub import HfApi

    folder = Path(os.fsdecode(folder))
    if not (folder / "README.md").is_file() or not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} holds no README.md beside *.safetensors. attnzoo.save_pretrained(model, "
            f"folder) writes such a folder."
        )
    try:
        api = HfApi(endpoint=_endpoint())
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            allow_patterns=list(SHARED),
            commit_message="Upload by attnzoo",
        )
    except Exception as error:  # of the net, of the library beneath, of its answers, of a name
        raise CheckpointError(
            f"{folder} was not uploaded to {repo_id!r}: {_told(error)}"
        ) from error
    return str(done.commit_url)


def downloaded(repo_id: str, revision: str | None) -> Path:
    """The folder on this machine in which a repository's files are kept.

    Raises:
        CheckpointError: it is not to be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=list(SHARED), endpoint=_endpoint()
            )
        )
    except Exception as error:
        raise CheckpointError(
            f"{repo_id!r} is no folder here, and no repository that can be had: {_told(error)}"
        ) from error


def _endpoint() -> str | None:
    """Another hub than the usual one; the library asks once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
