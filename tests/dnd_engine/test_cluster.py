"""Jobs on a Ray cluster of two nodes on this machine: the same results as without, or a reason."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.cluster import Cluster, named_anywhere
from dnd_engine.errors import ConfigError, JobError, TrainingError
from dnd_engine.training.collection_files import MANIFEST
from dnd_engine.training.finetune import collect_runs
from dnd_engine.training.finetune.collect import collect
from dnd_engine.training.finetune.collect_recipe import CollectRecipe
from tests.dnd_engine import cluster_jobs
from tests.dnd_engine.tiny import CPU
from tests.dnd_engine.training.finetune.test_collect import digests, write_letters


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_collection_survives_a_killed_worker_to_the_byte(
    cluster_address: str,
    tiny_folder: Path,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = CollectRecipe(
        tasks=(write_letters(tmp_path / "letters"),),
        out=tmp_path / "here",
        base=str(tiny_folder),
        split="both",
        steps=8,
        batch_size=3,
        learning_rate=1e-2,
        max_tokens=120,
        validation_examples=2,
        num_snapshots=2,
        plateau_steps=2,
        smoothing_steps=1,
        plateau_percent=0,
        tasks_at_once=2,
        checkpoint_every=2,
        threads=1,
    )
    monkeypatch.setattr(collect_runs, "best_device", lambda: CPU)
    monkeypatch.setattr(collect_runs, "best_dtype", lambda device: torch.float32)
    here = collect(recipe)
    there = replace(recipe, out=tmp_path / "there")
    marks = tmp_path / "marks"
    marks.mkdir()

    class Deadly(Cluster):
        def run(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
            return super().run(partial(cluster_jobs.train_and_die_once, work, marks), jobs)

    found = collect(there, cluster=Deadly(address=cluster_address))
    assert len([*marks.glob("attempt-*")]) == 3, "two groups, and one of them twice"
    assert found.runs == here.runs
    assert (there.out / MANIFEST).read_bytes() == (recipe.out / MANIFEST).read_bytes()
    assert digests(there.out) == digests(recipe.out)


@pytest.mark.slow
def test_jobs_take_what_they_ask_for_and_say_how_they_failed(
    cluster_address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Cluster(address=cluster_address, retries=0)
    assert sorted(plain.run(cluster_jobs.square, range(5))) == [0, 1, 4, 9, 16]
    greedy = Cluster(address=cluster_address, gpus=1).run(cluster_jobs.node, range(4))
    assert len(set(greedy)) == 1, "one of the nodes has a GPU"
    with pytest.raises(TrainingError, match=r"^no 3$"):
        list(plain.run(cluster_jobs.refuse, [3]))
    with pytest.raises(ZeroDivisionError, match="fail"):  # where it happened is in the message
        list(plain.run(cluster_jobs.fail, [3]))
    with pytest.raises(JobError, match=r"attempts: 1\); the last ended with WorkerCrashedError"):
        list(plain.run(cluster_jobs.die, [3]))
    assert "no node" not in caplog.text
    monkeypatch.setattr("ray.nodes", list)
    assert list(plain.run(cluster_jobs.square, [3])) == [9]
    assert "no node of the cluster has 1 CPUs and 0 GPUs" in caplog.text


def test_a_cluster_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"`ray://one:1` is not a cluster address\. Give"):
        Cluster(address="ray://one:1")

    with pytest.raises(JobError, match=r"^no Ray cluster at `127.0.0.1:1`: .* refused\. Start"):
        list(Cluster(address="127.0.0.1:1").run(cluster_jobs.square, [1]))

    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(JobError, match=r"^no Ray cluster at `auto`: Could not find .*`ray start"):
        list(Cluster().run(cluster_jobs.square, [1]))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(JobError, match=r"`pip install -e '\.\[ray\]'`"):
        list(Cluster().run(cluster_jobs.square, [1]))


def test_a_folder_is_named_by_its_absolute_path_and_any_other_model_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    names = ["mine", "user/model", "x" * 5000]
    assert [named_anywhere(name) for name in names] == [str(tmp_path / "mine"), *names[1:]]


def test_options_of_jobs_need_a_cluster() -> None:
    made = CliRunner().invoke(app, ["collect", "recipe.yaml", "--job-gpus", "1"])
    assert made.exit_code == 2
    assert "--job-gpus: is for jobs on a cluster: add --ray." in made.stderr
