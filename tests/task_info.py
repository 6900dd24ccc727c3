"""A row of `tasks.csv`, for tests that are about other things than what it says."""

from dnd_engine.tasks.folder import TaskInfo


def task_info(slug: str = "s", **fields: str) -> TaskInfo:
    """Return a train task, in a family of its own."""
    usual = {"slug": slug, "family": slug, "category": "c", "metric": "exact", "split": "train"}
    usual |= {"licence": "MIT", "licence_class": "permissive", "description": "d"}
    return TaskInfo(**usual | fields)
