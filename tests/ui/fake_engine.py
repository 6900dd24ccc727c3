"""An engine without models: the same contract and invented numbers, at once.

Its adapter zip is real enough to open. The first word of a question steers what it does, so that
tests can reach every state: see the docstrings of `FakeEngine`. A state that does not last stays
while a test holds it: see `Pace`.
"""

# ruff: noqa: D101, D102 - the real engine describes them

import json
import threading
import time
import zipfile
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from dnd_engine.checks.results import (
    Conditioning,
    Control,
    Familiarity,
    Forecast,
    Inspection,
    Ordinary,
    Outlook,
    Precedent,
    Skills,
)
from dnd_engine.checks.verdict import Agreement, Answered, judge
from dnd_engine.config import EngineConfig, ImprintConfig, Mix, RefineConfig, Sampling, Teacher
from dnd_engine.errors import (
    AdapterError,
    DndError,
    HubError,
    ImprintError,
    RecipeError,
    TrainingError,
    VerificationError,
)
from dnd_engine.export.registry import Exported, Pushed
from dnd_engine.generator.info import EngineInfo
from dnd_engine.generator.report import Report
from dnd_engine.limits import PromptLimits
from dnd_engine.lora.provenance import BucketSource, Imprinting, NearestTask, Recipe
from dnd_engine.models.replies import Message, Reply
from dnd_engine.notes import noted
from dnd_engine.progress import AnswerCounts, Doing, Progress, ProgressStage
from dnd_engine.prompts.buckets import Bucket, check_buckets, measured_prompts
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.local import BetterModel
from tests import reports
from tests.ui.fake_adapter import BASE, FakeAdapter, digest
from tests.ui.fake_measure import FakeMeasuring
from tests.ui.pace import Pace
from ui.engine_handle import EngineHandle

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.models.encoder import PromptMemory

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


GAINED = Outlook(n_tasks=12, gain=0.43, low=0.22, high=0.61, rank_correlation=0.57)
FOUND_TO_WORK = Precedent(n_tasks=17, score=0.46, low=0.29, high=0.63)
IDLE = Outlook(n_tasks=44, gain=0.02, low=-0.01, high=0.05, rank_correlation=0.57)


def familiarity(similarity: float, num_prompts: int = 9) -> Familiarity:
    """Prompts as near to training as given, beside 80 examined tasks."""
    return Familiarity(
        similarity=similarity,
        num_prompts=num_prompts,
        lowest=0.43,
        highest=0.97,
        n_tasks=80,
        rank_correlation=-0.22,
        low=-0.44,
        high=0.05,
    )


INFO = EngineInfo(
    base_id=BASE,
    base_path="/models/base",
    base_sha256="9c41e0" + "0" * 58,
    base_parameters=134_515_008,
    encoder_id="fake",
    encoder_path="/models/encoder",
    encoder_sha256="e" * 64,
    generator_id="fake",
    generator_path=Path("/models/fake"),
    generator_sha256=reports.SHA,
    device="cpu",
    seconds={"load": 0.9},
)


ALONE = replace(INFO, generator_id=None, generator_path=None, generator_sha256=None)
"""What the engine says of a base without a generator."""

ANSWERS = AnswerCounts("yes.", 4, 9, 3)


BASE_WORDS = (
    "The question can be answered in several ways. It is important to note that the base model "
    "does not know the task and so it talks about it in general."
)


class FakeEngine(FakeMeasuring):
    config: EngineConfig = EngineConfig()
    card: str
    reports: dict[str, Report]

    def __init__(self) -> None:
        self.pace = Pace()
        self.info = INFO
        self.card = "---\nlicense: mit\n---\n# A generator of no models\n"
        self.reports = {split: reports.report(split) for split in ("heldout", "train")}
        self.calls: list[dict[str, Any]] = []
        self.imprints: list[dict[str, Any]] = []
        self.refinements: list[dict[str, Any]] = []
        self.taught: list[dict[str, str]] = []
        self.forecasts: list[str] = []
        self.read: list[dict[str, Any]] = []
        """What was encoded ahead."""
        self.exports: list[tuple[str, str]] = []
        self.pushes: list[tuple[str, str | None, bool]] = []
        self.asked: list[list[Any]] = []
        self.strengths: list[list[float]] = []
        self.threads: set[int] = set()
        """Those that computed."""
        self.closed_chats = 0
        self.closed_imprints = 0
        self.closed_refinements = 0
        self.closed_measurements = 0

    def synthesize(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        memory: "PromptMemory | None" = None,
    ) -> Generator[Progress, None, FakeAdapter]:
        """A prompt with FAIL in it fails; NOTHING makes a useless adapter."""
        self.threads.add(threading.get_ident())
        start = time.perf_counter()
        buckets = check_buckets(buckets, PromptLimits())
        texts = sorted({prompt.text for bucket in buckets for prompt in bucket.prompts})
        weights = {bucket.name: bucket.weight for bucket in buckets}
        self.calls.append(
            {"mix": mix, "seed": seed, "texts": texts, "weights": weights, "memory": memory}
        )
        if not self.info.has_generator:
            blank = FakeAdapter(
                name="alone",
                sha256=digest("blank"),
                num_prompts=len(texts),
                provenance={
                    **self._recipe(buckets, mix, seed).to_json(),
                    **{"root": digest("blank"), "useless": False, "unlike": False},
                },
            )
            made = yield from self.imprint(blank, buckets, ImprintConfig(seed=seed))
            return replace(made, seconds={"imprint": 3.2, "total": 3.2})
        stages: list[tuple[ProgressStage, Doing, float]] = [
            *(("encode", "read", step / 3) for step in range(3)),
            ("decode", "write", 0.0),
        ]
        for step, (stage, doing, share) in enumerate(stages, 1):
            progress = Progress(stage, share, time.perf_counter() - start, doing)
            yield progress
            yield from self.pace.stay("synthesis", step, progress)
            if any("FAIL" in text for text in texts):
                raise DndError("The encoder ran out of memory at prompt 3. Use fewer prompts.")
        yield Progress("check", None, time.perf_counter() - start, "compare_tasks")
        root = digest(repr((texts, weights, mix, seed)))
        name = "-".join(bucket.name.lower().split()[0] for bucket in buckets)
        useless = any("NOTHING" in text for text in texts)
        return FakeAdapter(
            name=name,
            sha256=root,
            num_prompts=len(texts),
            strength=strength,
            provenance={
                **self._recipe(buckets, mix, seed).to_json(),
                **{"root": root, "useless": useless, "unlike": useless},
            },
            kept_energy=0.91 if mix == "sum" else None,
        )

    def make(
        self, buckets: Sequence[Bucket], *, imprinted: bool = True, **how: Any
    ) -> Generator[Progress, None, FakeAdapter]:
        made = yield from self.synthesize(buckets, **how)
        if not imprinted or made.is_imprinted:
            return made
        try:
            config = ImprintConfig(seed=how["seed"])
            return (yield from self.imprint(made, buckets, config, memory=how["memory"]))
        except ImprintError as error:
            return replace(made, not_imprinted=str(error))

    def _recipe(self, buckets: Sequence[Bucket], mix: Mix, seed: int) -> Recipe:
        return Recipe(
            base=self.info.base_id,
            base_sha256=self.info.base_sha256,
            encoder="fake" if self.info.has_generator else None,
            encoder_sha256="e" * 64 if self.info.has_generator else None,
            generator=self.info.generator_id,
            generator_sha256=self.info.generator_sha256,
            mix=mix,
            seed=seed,
            buckets=tuple(map(BucketSource.of, buckets)),
        )

    def regenerate(
        self, recipe: Recipe, paths: Sequence[Path] = ()
    ) -> Generator[Progress, None, FakeAdapter]:
        """Another generator's recipe is refused."""
        if recipe.generator_sha256 != self.info.generator_sha256:
            raise RecipeError("the recipe needs another generator. Load the one it names.")
        buckets = [source.bucket() for source in recipe.buckets]
        made = yield from self.synthesize(buckets, mix=recipe.mix, seed=recipe.seed)
        return made.with_strength(recipe.strength)

    def warm_up(self) -> None:
        pass

    def measure_ordinary(self) -> Iterator[None]:
        yield from ()

    @property
    def runtime(self) -> Any:
        """Threads alone."""
        return SimpleNamespace(threads=SimpleNamespace(use_all=lambda: None))

    @staticmethod
    def new_memory() -> Any:
        return SimpleNamespace(num_bytes=0)

    def imprint(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        config: ImprintConfig | None = None,
        *,
        teacher: Teacher = "generator",
        memory: "PromptMemory | None" = None,
    ) -> Generator[Progress, None, FakeAdapter]:
        """A prompt with IMPRINT in it can be imprinted, OOM breaks it."""
        assert isinstance(adapter, FakeAdapter)
        start = time.perf_counter()
        texts = sorted({p.text for bucket in buckets for p in bucket.prompts})
        seed = config.seed if config else 0
        self.imprints.append({"from": adapter.sha256, "seed": seed, "memory": memory, "steps": 0})
        if not any("IMPRINT" in text for text in texts):
            raise ImprintError(
                noted(
                    "no prompt has an instruction and an input. Write the instruction, a blank "
                    "line, then the input; or give all of them one instruction."
                )
            )
        asked, layers = len(texts), 30
        steps: list[tuple[ProgressStage, Doing, int, int]] = [
            *(("ask", "ask_with_instruction", n, asked) for n in range(0, asked + 1, 4)),
            *(("imprint", "fit_layer", n, layers) for n in range(12, layers + 1, 3)),
        ]
        try:
            for step, (stage, doing, done, total) in enumerate(steps, 1):
                self.imprints[-1]["steps"] = step
                elapsed = time.perf_counter() - start
                progress = Progress(stage, done / total, elapsed, doing, done=done, total=total)
                yield progress
                yield from self.pace.stay("imprint", step, progress)
                if any("OOM" in text for text in texts):
                    raise DndError("The base ran out of memory at prompt 3. Use fewer prompts.")
        finally:
            self.closed_imprints += 1
        root = digest(f"{adapter.provenance['root']} imprinted {texts} {seed}")
        found = Imprinting.of(
            config or ImprintConfig(),
            from_sha256=adapter.with_strength(1).sha256,
            num_prompts=asked,
            num_answers=asked,
            commonest_share=1 / asked,
            unfinished=0,
            layers=(0.0,) * 12 + (0.6,) * 18,
        )
        return replace(
            adapter,
            sha256=root,
            provenance={**adapter.provenance, "root": root, "imprint": found.to_json()},
            seconds={**adapter.seconds, "imprint": 3.2},
            kept_energy=None,
            skipped_buckets=tuple(
                noted(
                    "Bucket `{bucket}` was not imprinted: none of its prompts has an instruction.",
                    bucket=bucket.name,
                )
                for bucket in buckets
                if bucket.num_without_instruction == bucket.num_prompts
            ),
        ).with_strength(adapter.strength)

    def refine(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Generator[Progress, None, FakeAdapter]:
        """As the real one it needs 8 prompts with a blank line.

        The first refinement of an adapter that does nothing cures it.
        """
        assert isinstance(adapter, FakeAdapter)
        config = config or RefineConfig()
        prompts = {p.text: p for bucket in buckets for p in bucket.prompts}.values()
        texts = sorted(p.text for p in prompts if p.label or not config.labels)
        learning = self._learn(adapter, texts, config, enough, by_itself=not config.labels)
        steps, scores = yield from learning
        refined = {
            "from_sha256": adapter.sha256,
            "labels": config.labels,
            "commonest_share": 1.0 if all("ALIKE" in text for text in texts) else 0.5,
            **scores,
        }
        return self._taught(adapter, steps, "refined", refined, {"refine": 28.4})

    def teach(
        self,
        adapter: "Adapter",
        answers: Mapping[str, str] | BetterModel,
        buckets: Sequence[Bucket] = (),
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Generator[Progress, None, FakeAdapter]:
        """A better model is really asked; the rest is as for `refine`."""
        assert isinstance(adapter, FakeAdapter)
        config = RefineConfig(labels=isinstance(answers, Mapping))
        prompts = {p.text for bucket in buckets for p in bucket.prompts}
        by: dict[str, Any] = {"answers": "person"}
        if not isinstance(answers, Mapping):
            by = {"answers": "teacher", "teacher": answers.model}
            examples = [Example(text, "") for text in sorted(prompts)]
            given = [text for part in answers.answers(examples) for text in part]
            answers = {e.prompt: text or "" for e, text in zip(examples, given, strict=True)}
        self.taught.append(dict(answers))
        steps, scores = yield from self._learn(adapter, sorted(answers), config, enough)
        return self._taught(adapter, steps, "trained", {**by, **scores}, {"train": 12.1})

    def propose(
        self, buckets: Sequence[Bucket], *, limit: int = 16, seed: int = 0
    ) -> Generator[Progress, None, dict[str, str]]:
        """The base says yes to everything, but not to prompts with a label."""
        prompts = {p.text: p for bucket in buckets for p in bucket.prompts}.values()
        if not (split := [p for p in prompts if split_prompt(p.text).input is not None]):
            raise TrainingError("teaching needs 1 or more different prompts; got 0.")
        yield Progress("ask", 1.0, 0.1, "ask", done=len(split), total=len(split))
        return {p.text: p.label or "yes." for p in split[:limit]}

    def _learn(
        self,
        adapter: FakeAdapter,
        texts: Sequence[str],
        config: RefineConfig,
        enough: Callable[[], bool] | None,
        *,
        by_itself: bool = False,
    ) -> Generator[Progress, None, tuple[int, dict[str, Any]]]:
        start = time.perf_counter()
        self.refinements.append(
            {"from": adapter.sha256, "labels": config.labels, "texts": texts, "steps": 0}
        )
        usable = sum(config.labels or split_prompt(text).input is not None for text in texts)
        if usable < config.least_prompts:
            raise TrainingError(
                f"teaching needs {config.least_prompts} or more different prompts with an "
                f"instruction, a blank line and an input; got {usable} ({len(texts) - usable} "
                "without a blank line). Put a blank line between instruction and input, or add "
                "prompts."
            )
        scores: dict[str, Any] = {"score": 0.75, "score_before": 0.25, "num_held_back": 4}
        try:
            if not config.labels:
                for done in (0, usable // 2):
                    elapsed = time.perf_counter() - start
                    yield Progress("ask", done / usable, elapsed, "ask", done=done, total=usable)
                asked = time.perf_counter() - start
                yield Progress(
                    "ask", 1.0, asked, "answered", answers=ANSWERS, done=usable, total=usable
                )
            ended = enough or bool
            while not (ended() or self.pace.goes_on("refine", 0, 0.1)):
                pass  # before the first step a refinement has nothing to say
            for step in range(1, 11):
                self.refinements[-1]["steps"] = step
                progress = Progress(
                    "refine",
                    step / 10,
                    time.perf_counter() - start,
                    "train",
                    loss=1 / step,
                    seconds_left=10.0 - step,
                    **{**scores, "score": 0.25 if step < 5 else 0.75},
                    by_itself=by_itself,
                )
                yield progress
                for again in self.pace.stay("refine", step, progress):
                    if ended():
                        break
                    yield again
                if ended():
                    break
        finally:
            self.closed_refinements += 1
        return step, scores

    @staticmethod
    def _taught(
        adapter: FakeAdapter, steps: int, how: str, found: Any, seconds: dict[str, float]
    ) -> FakeAdapter:
        root = digest(f"{adapter.sha256} {how} {found} {steps}")
        return replace(
            adapter,
            name=f"{adapter.name}-taught",
            sha256=root,
            strength=1.0,
            provenance={**adapter.provenance, "root": root, "useless": False, how: found},
            seconds={**adapter.seconds, **seconds},
            kept_energy=None,
        )

    def compare(
        self,
        conversations: Sequence[Sequence[Message]],
        adapters: Sequence["Adapter | None"],
        *,
        sampling: Sampling | None = None,
        strengths: Sequence[Callable[[], float] | None] | None = None,
    ) -> Generator[list[Reply], None, None]:
        """LONG answers are long, SAME ones are equal, BREAK breaks."""
        sampling = sampling or Sampling()
        self.threads.add(threading.get_ident())
        self.asked.append([list(messages) for messages in conversations])
        # What was typed, whether or not the page put an instruction before it.
        question = conversations[0][-1]["content"].rpartition("\n\n")[2]
        if question.startswith("BREAK"):
            raise DndError("The question is longer than the model can read.")
        words = [self._words(question, adapter) for adapter in adapters]
        try:
            for count in range(1, max(map(len, words)) + 1):
                self.strengths.append([strength() for strength in strengths or () if strength])
                replies = [self._reply(each, count, sampling) for each in words]
                yield replies
                yield from self.pace.stay("chat", count, replies)
                if count >= sampling.max_new_tokens:
                    return
        finally:
            self.closed_chats += 1

    @staticmethod
    def _words(question: str, adapter: "Adapter | None") -> list[str]:
        base = BASE_WORDS.split() * (20 if question.startswith("LONG") else 1)
        if adapter is None or question.startswith("SAME"):
            return base
        return (
            f"```sql\nSELECT name FROM cars WHERE colour = 'red'\n``` asked {question} "
            f"under {adapter.sha256[:8]}"
        ).split(" ")

    @staticmethod
    def _reply(words: list[str], count: int, sampling: Sampling) -> Reply:
        shown = min(count, len(words))
        cut = count >= sampling.max_new_tokens and shown < len(words)
        finished = shown == len(words) or cut
        return Reply(
            text=" ".join(words[:shown]),
            num_tokens=shown,
            stop_reason=("length" if cut else "eos") if finished else None,
            first_token_seconds=0.09,
            tokens_per_second=48.0,
        )

    def read_ahead(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        seed: int = 0,
        memory: "PromptMemory",
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.threads.add(threading.get_ident())
        if not goes_on():
            return
        names = {bucket.name for bucket in buckets}
        self.read.append({"names": names, "mix": mix, "seed": seed, "memory": memory})

    def forecast(self, bucket: Bucket) -> Forecast | None:
        self.threads.add(threading.get_ident())
        prompts = [p for p in bucket.prompts if "\n\n" in p.text]
        self.forecasts.append(bucket.name)
        sure = (0.1, 0.45, 0.8)[len(bucket.name) % 3]
        return Forecast(sureness=sure, num_prompts=min(8, len(prompts))) if prompts else None

    def inspect(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket] = (),
        *,
        only: Collection[str] | None = None,
    ) -> Inspection:
        assert only is None, "the page shows all checks"
        prompts = measured_prompts(buckets)
        self.threads.add(threading.get_ident())
        useless = adapter.provenance["useless"]
        unlike = adapter.provenance["unlike"]
        scale = 0.1 if useless else 1.0
        seed = int(adapter.provenance["root"][:8], 16)
        norms = {
            matrix: tuple(
                scale * 0.004 * (1 + ((seed >> (row + layer) % 17) % 7 + (layer * row) % 5))
                for layer in range(30)
            )
            for row, matrix in enumerate(MATRICES)
        }
        if adapter.is_imprinted:
            norms = {"down_proj": (0.0,) * 12 + norms["down_proj"][12:]}
        nearest = (
            NearestTask("wikisql", "Question to SQL over one table", 0.19 if unlike else 0.71),
            NearestTask("cuad-exclusivity", "Does the clause commit to one party", 0.18),
            NearestTask("yelp-neg-to-pos", "Rewrite a review to be positive", 0.16),
        )
        effect = (0.004 if useless else 0.42) if prompts else None
        same = 0 if useless else 6
        answers = tuple(
            Answered(
                bucket=buckets[0].name,
                input=split_prompt(prompt).bare,
                bare="yes" if number < same else "no",
                instructed="yes",
                same=number < same,
            )
            for number, prompt in enumerate(prompts[:8])
        )
        agrees = Agreement(same, 8, answers=answers)
        worth = IDLE if useless else GAINED
        near = familiarity(nearest[0].similarity, adapter.num_prompts)
        found = Inspection(
            effect,
            norms,
            nearest,
            len(prompts),
            strongest=12.0,
            familiarity=near,
            ordinary=Ordinary(60, 64, 0.5),
            skills=Skills(20, 19, 1, 24),
        )
        if "refined" in adapter.provenance:
            return found
        verdict = judge(agrees)
        found = replace(found, agreement=agrees, verdict=verdict)
        if adapter.is_imprinted:
            return replace(found, precedent=FOUND_TO_WORK)
        return replace(found, outlook=worth)

    def relative_norms(self, adapter: "Adapter") -> Mapping[str, tuple[float, ...]]:
        return self.inspect(adapter).relative_norms

    def thumbprint(self, adapter: "Adapter") -> tuple[tuple[float, ...], ...]:
        return tuple(self.relative_norms(adapter).values())

    def prove(
        self, adapter: "Adapter", buckets: Sequence[Bucket], *, memory: "PromptMemory | None" = None
    ) -> Generator[Progress, None, Conditioning | None]:
        """A bucket named "Doubt" depends on nothing, "Few" has nothing to tell, "Broken" fails."""
        self.threads.add(threading.get_ident())
        yield Progress("decode", 0.0, 0.0, "shuffled")
        yield Progress("check", None, 0.1, "compare_adapters", num_prompts=16)
        names = {bucket.name for bucket in buckets}
        if "Broken" in names:
            raise DndError("The base ran out of memory at prompt 9. Use fewer prompts.")
        if "Few" in names:
            return None
        wrong = (0.1, -0.2, 0.4) if "Doubt" in names else (0.58, 0.45, 0.71)
        return Conditioning(
            1.23,
            16,
            (
                Control("wrong", 1.23 + wrong[0], *wrong),
                Control("mean", 1.62, 0.39, 0.23, 0.55),
                Control("shuffled", 1.2, -0.03, -0.08, 0.02),
                Control("base", 3.26, 2.03, 1.7, 2.35),
            ),
            ("Tone of voice",),
        )

    @staticmethod
    def with_checks(
        adapter: "Adapter", found: Inspection, proof: Conditioning | None = None
    ) -> FakeAdapter:
        assert isinstance(adapter, FakeAdapter)
        checks = {
            "strength": adapter.strength,
            "effect": found.effect,
            "agreement": found.agreement and asdict(found.agreement),
            "proved": proof is not None,
        }
        return replace(adapter, checks=checks)

    def recall(
        self, checks: Mapping[str, Any], nearest: Sequence[NearestTask] = ()
    ) -> tuple[Inspection | None, None]:
        """Checks that are no numbers are damaged."""
        if (effect := checks.get("effect")) is None:
            return None, None
        if not isinstance(effect, float):
            raise AdapterError("the checks that are kept with the adapter are damaged.")
        agreed = checks.get("agreement")
        agrees = agreed and TypeAdapter(Agreement).validate_python(agreed)
        return Inspection(effect, {}, tuple(nearest), 0, agrees, strongest=12.0), None

    def read_adapter(self, path: Path | str) -> FakeAdapter:
        """A folder or zip; anything else has two faults."""
        path = Path(path)
        if path.is_dir():
            files = {child.name: child.read_bytes() for child in path.iterdir()}
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
        else:
            files = {}
        if "adapter_config.json" not in files:
            raise AdapterError(
                f"`{path}` is no PEFT adapter: adapter_config.json missing.\n"
                f"`{path}` has its weights in a pickle (`<b>evil</b>.bin`)."
            )
        origin = json.loads(files["provenance.json"])
        sha256 = files["adapter_model.safetensors"].decode()
        origin = {k: v for k, v in origin.items() if k not in ("strength", "sha256")}
        origin = {"useless": False, "unlike": False, **origin, "root": sha256}
        return FakeAdapter(
            name=path.stem, sha256=sha256, num_prompts=0, seconds={}, provenance=origin
        )

    def export(self, adapter: "Adapter", format: str, path: Path | str) -> Exported:
        """At strength 2 it fails, as `save` does."""
        path = Path(path)
        self.exports.append((adapter.sha256, format))
        while not self.pace.goes_on("export", 1, 1.0):
            pass
        if adapter.strength == 2.0:
            raise VerificationError("verify failed: the logits differ. Nothing was saved.")
        if format == "merged":
            path.mkdir()
            (path / "model.safetensors").write_text(adapter.sha256)
        else:
            path.write_text(adapter.sha256)
        parts = [path] if path.is_file() else [*path.iterdir()]
        return Exported(
            path=path,
            format=format,
            num_bytes=sum(part.stat().st_size for part in parts),
            usage=f"load({str(path)!r})",
            difference=None,
        )

    def push(
        self, adapter: "Adapter", repo_id: str, *, token: str | None = None, private: bool = True
    ) -> Pushed:
        """The token `hf_wrong` is refused; none at all is this machine's login."""
        self.pushes.append((repo_id, token, private))
        if "/" not in repo_id or token == "hf_wrong":
            raise HubError(f"the Hub refused `{repo_id}`: the token is not valid.")
        return Pushed(
            url=f"https://huggingface.co/{repo_id}", private=private, usage=f"load({repo_id!r})"
        )

    def save(self, adapter: "Adapter", path: Path | str) -> Path:
        path = Path(path)
        self.threads.add(threading.get_ident())
        if adapter.strength == 2.0:
            raise VerificationError(
                "Verify failed: 3 keys missing after reload. Nothing was saved."
            )
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in adapter.files().items():
                archive.writestr(name, data)
        return path


def handle_of(engine: FakeEngine | None = None) -> EngineHandle:
    """Hold an engine that is loaded at once."""
    return EngineHandle(lambda on_progress: engine or FakeEngine())


class Loading:
    """Loads 40 % of an engine, and the rest once a test lets it."""

    def __init__(self, error: DndError | None = None) -> None:
        self.fetched = threading.Event()
        self._error = error

    def __call__(self, on_progress: Callable[[Progress], None]) -> FakeEngine:
        on_progress(Progress("download", 0.4, 1.0, "download", "a-base==1"))
        self.fetched.wait(600)
        if self._error is not None:
            raise self._error
        return FakeEngine()
