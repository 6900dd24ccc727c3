"""Pushes files to the Hugging Face Hub, through huggingface_hub: an adapter, or the app as a Space.

A token is passed on and forgotten: never logged, kept, or put in a message.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx, validate_repo_id  # type: ignore[attr-defined]  # public, but not typed as such

from dnd_engine.errors import HubError
from dnd_engine.notes import Note, noted

_TOKENS = "https://huggingface.co/settings/tokens"
_TOKEN_LETTERS = {chr(code) for code in range(33, 127)}
_STATUS: Mapping[int, Note] = {
    401: noted("the token is not valid. Make one with write access at {page}", page=_TOKENS),
    403: noted(
        "the token may not write there. Check the name before the slash, and that the token has "
        "write access ({page})",
        page=_TOKENS,
    ),
    404: noted(
        "there is no such place, or the token may not see it. Check the name before the slash"
    ),
    429: noted("too many requests. Wait some minutes, and try again"),
}


def check_repo_id(repo_id: str) -> None:
    """Reject an invalid repository name.

    Raises:
        HubError: If the name is invalid.
    """
    if not repo_id.strip():
        raise HubError(noted("name the repository, as `user/name`."))
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("no user")
    except HFValidationError as error:
        raise HubError(
            "`{repo}` cannot be a repository: expected `user/name`, of letters, digits, `-`, `_` "
            "and `.`, 96 at most.",
            repo=repo_id,
        ) from error


def find_token(token: str | None) -> str:
    """Return the given token, or that of this machine's Hub login.

    Raises:
        HubError: If there is none, or it is malformed.
    """
    found = (token or "").strip() or get_token()
    if not found:
        raise HubError(
            "no token for the Hugging Face Hub. Log in with `hf auth login`, set HF_TOKEN, or "
            "give one with write access ({page}).",
            page=_TOKENS,
        )
    # The HTTP library would reject a malformed token too, but quote it in its message.
    if not set(found) <= _TOKEN_LETTERS:
        raise HubError(
            "the token holds letters that no token has. Copy it again from {page}.",
            page=_TOKENS,
        )
    return found


def push_files(
    files: Mapping[str, bytes | Path],
    repo_id: str,
    token: str | None,
    private: bool,
    *,
    space: bool = False,
) -> tuple[str, bool]:
    """Upload files to a repository in one commit, creating it if needed.

    Args:
        files: Contents of files, or where they are, by name.
        repo_id: `user/name`.
        token: None uses this machine's Hub login.
        private: Whether a new repository is private. A private upload to a public repository is
            refused.
        space: Whether it is the repository of a Gradio Space; otherwise it is that of a model.

    Returns:
        The repository's URL, and whether it is private.

    Raises:
        HubError: If there is no token, the name is wrong, the Hub refuses or cannot be reached.
    """
    check_repo_id(repo_id)
    api = HfApi(token=find_token(token), library_name="drag-and-drop-llms")
    kind, sdk = ("space", "gradio") if space else ("model", None)
    with _in_words(repo_id, api.endpoint):
        url = api.create_repo(
            repo_id, repo_type=kind, space_sdk=sdk, private=private, exist_ok=True
        )
        # With `exist_ok`, `private` has no effect on a repository that is there already.
        is_private = bool(api.repo_info(url.repo_id, repo_type=kind).private)
    # Outside of `_in_words`: a HubError is an OSError, which it would take for a network failure.
    if private and not is_private:
        raise HubError(
            "`{repo}` exists and is public, so nothing was uploaded. Choose another name, or "
            "upload it as public (at the command line: --public).",
            repo=url.repo_id,
        )
    with _in_words(repo_id, api.endpoint):
        api.create_commit(
            url.repo_id,
            [CommitOperationAdd(name, data) for name, data in files.items()],
            commit_message="Deploy the app" if space else "Upload adapter",
            repo_type=kind,
        )
    return str(url), is_private


@contextmanager
def _in_words(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn exceptions of huggingface_hub into `HubError`."""
    try:
        yield
    except HfHubHTTPError as error:
        # First, because it is an `HTTPError` and an `OSError` too.
        status = error.response.status_code
        said = noted(
            "it answered {status}, {reply}",
            status=status,
            reply=error.server_message or noted("no reason"),
        )
        reason = _STATUS.get(status, said)
        raise HubError(
            "the Hub refused `{repo}`: {reason}.", repo=repo_id, reason=reason
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise HubError(
            "{server} could not be reached: {reason}. Check the network, and that HF_HUB_OFFLINE "
            "is not set. Pushing again completes what was begun.",
            server=endpoint,
            reason=str(error),
        ) from error
    # huggingface_hub raises this for a card that the Hub rejects, and for a failed weights upload.
    except (ValueError, RuntimeError) as error:
        raise HubError(
            "`{repo}` was not uploaded: {reason}",
            repo=repo_id,
            reason=" ".join(str(error).split()),
        ) from error
