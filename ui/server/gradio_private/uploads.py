"""Uploaded files: where they are, and how they arrive whole and leave."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from gradio import routes
from gradio.processing_utils import save_file_to_cache
from gradio.route_utils import upload_fn
from gradio.routes import file_upload_statuses
from gradio.utils import get_upload_folder


def upload_cache() -> Path:
    """Return the folder where Gradio keeps uploads."""
    return Path(get_upload_folder())


def copied_to_cache(file: Path, cache: Path) -> str:
    """Copy a file into such a folder as if it was uploaded, and return its path there."""
    return str(save_file_to_cache(file, cache_dir=str(cache)))


def keep_whole_uploads(demo: gr.Blocks) -> None:
    """Keep whole uploads until `delete_cache` deletes those; call it once all components exist.

    Gradio leaves the parts that it has written wherever a client disconnects, a body ends too early
    or a field is none of its own. It counts what a button offers for download among its own copies,
    too, and deletes it minutes after it was written; but these files belong to visits, which end
    later and remove them.
    """
    routes.upload_fn = _receive_whole  # type: ignore[attr-defined]  # imported there, in every app
    demo.temp_file_sets = [demo.upload_file_set]


async def _receive_whole(
    request: Any, upload_dir: str, *args: Any, **kwargs: Any
) -> tuple[list[str], list[str], list[str]]:
    """Receive an upload in a folder that ends with the request, and move out the whole files."""
    cache = Path(upload_dir)
    cache.mkdir(parents=True, exist_ok=True)
    # Windows cannot delete what Gradio has not closed yet; that goes with the process.
    with TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as folder:
        # Forced, because Gradio else moves some files after this has returned.
        files, *_later = await upload_fn(request, folder, *args, **{**kwargs, "force_move": True})
        names = [Path(file).relative_to(folder) for file in files]
        for name in {*names}:  # equal files have one
            (cache / name).parent.mkdir(exist_ok=True)
            Path(folder, name).replace(cache / name)
    return [str(cache / name) for name in names], [], []


def forget_upload(upload_id: str) -> None:
    """Drop the progress of an upload: Gradio keeps some of it for ever."""
    file_upload_statuses.stop_tracking(upload_id)
    file_upload_statuses._signals.pop(upload_id, None)
