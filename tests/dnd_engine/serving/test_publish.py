"""A published adapter is on the disk whole, and a server is shown to answer with it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.lora.adapter import put_files
from dnd_engine.serving.server import Said, difference
from tests.dnd_engine.serving.engine_server import running_engine
from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import make_adapter
from tests.serving import free_port

FOLDERS = ("vllm", "sglang")


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "tiny")
    return Engine.load(EngineConfig(base=str(tiny_folder), generator=folder, device="cpu"))


@pytest.fixture
def adapter(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PEFT folder of the tiny base, which the commands find loaded."""
    monkeypatch.setattr(Engine, "load", lambda config=None, on_progress=None: engine)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = make_adapter(base_id=engine.info.base_id)
    put_files(made.files(), tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def base_id(engine: Engine) -> str:
    return engine.info.base_id


def publish(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["publish", *map(str, arguments)])


def test_a_folder_for_a_resolver_appears_whole(adapter: Path, tmp_path: Path) -> None:
    place = tmp_path / "adapters" / "sql"
    made = publish(adapter, "--to", place, "--served", "served/base", "--json")
    assert made.exit_code == 0, made.output
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "served/base"
    assert json.loads(made.stdout)["name"] == "sql"
    assert [path.name for path in place.parent.iterdir()] == ["sql"], "nothing is left beside it"
    again = publish(adapter, "--to", place, "--strength", "0.5")
    assert again.exit_code == 0, again.output
    assert f"VLLM_LORA_RESOLVER_CACHE_DIR={place.parent}" in again.output


def test_places_with_spaces_are_quoted_for_a_shell(adapter: Path, tmp_path: Path) -> None:
    place = tmp_path / "my adapters" / "sql"
    made = publish(adapter, "--to", place)
    assert f"VLLM_LORA_RESOLVER_CACHE_DIR='{place.parent}'. Then ask for" in made.stdout
    file = place.with_suffix(".gguf")
    assert f"--lora '{file}'`." in publish(adapter, "--to", file).stdout


def test_a_name_may_have_dots_of_its_own(adapter: Path, base_id: str, tmp_path: Path) -> None:
    with running_engine("vllm", base_id) as server:
        place = tmp_path / "adapters" / "sql-0.5"
        made = publish(adapter, "--to", place, "--engine", "vllm", server.url, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["name"] == "sql-0.5"
    assert place.is_dir()


def test_a_folder_with_other_files_is_not_replaced(adapter: Path, tmp_path: Path) -> None:
    place = tmp_path / "precious"
    place.mkdir()
    (place / "diary.txt").write_text("mine")
    made = publish(adapter, "--to", place)
    assert made.exit_code == 1
    assert "holds other files" in made.output
    assert [path.name for path in place.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_server_loads_it_and_answers_with_it(
    kind: str, adapter: Path, base_id: str, tmp_path: Path
) -> None:
    place = tmp_path / "adapters" / "sql"
    with running_engine(kind, base_id) as server:
        made = publish(adapter, "--to", place, "--engine", kind, server.url, "--json")
        assert made.exit_code == 0, made.output
        found = json.loads(made.stdout)["published"]
        assert found["model"] == ("sql" if kind == "vllm" else f"{base_id}:sql")
        assert (found["base_answer"], found["adapted_answer"]) == ("Late.", "Sorry!")
        assert server.adapters == {"sql": str(place)}
        earlier = (place / "adapter_model.safetensors").read_bytes()
        assert server.answered_with == [None, None, earlier]
        # A better adapter of the same name replaces it, also at the same place.
        again = publish(adapter, "--to", place, "--strength", "2", "--engine", kind, server.url)
        assert again.exit_code == 0, again.output
        better = (place / "adapter_model.safetensors").read_bytes()
        assert better != earlier
        assert server.answered_with[3:] == [None, None, better]
        other = publish(
            adapter, "--to", tmp_path / "elsewhere" / "sql", "--engine", kind, server.url
        )
        assert other.exit_code == 0, other.output
        assert server.adapters == {"sql": str(tmp_path / "elsewhere" / "sql")}


def test_without_a_place_it_goes_to_the_data_folder(
    adapter: Path, base_id: str, tmp_path: Path
) -> None:
    with running_engine("vllm", base_id) as server:
        made = publish(adapter, "--engine", "vllm", server.url)
    assert made.exit_code == 0, made.output
    kept = tmp_path / "data" / "drag-and-drop-llms" / "published" / "made"
    assert (kept / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_same_words_with_other_probabilities_are_proof(
    kind: str, adapter: Path, base_id: str
) -> None:
    with running_engine(kind, base_id, "same words") as server:
        made = publish(adapter, "--engine", kind, server.url, "--json")
    assert made.exit_code == 0, made.output
    assert 0.1 <= json.loads(made.stdout)["published"]["difference"] < 2


FAULTS = [
    ("vllm", "no route", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ("vllm", "no root", "does not say from which folder it loaded `made`"),
    ("vllm", "another", "with another adapter: it lists `/elsewhere/old`"),
    ("sglang", "no route", "Start SGLang with --enable-lora"),
    ("sglang", "another", "with another adapter: `/elsewhere/old`"),
    *((kind, "ignores", "exactly as its base does") for kind in FOLDERS),
    ("vllm", "ruled out", "exactly as its base does"),
    ("vllm", "other form", "it cannot be shown to work"),
    *((kind, "random", "differently each time as its base") for kind in FOLDERS),
    *(
        (kind, "no access", "(401: Unauthorized). Give the server's key with --key.")
        for kind in FOLDERS
    ),
    *((kind, "not listed", "/v1/models does not list it") for kind in FOLDERS),
    *((kind, "no list", "/v1/models` answered 404") for kind in FOLDERS),
    *((kind, "no chat", "out of memory") for kind in FOLDERS),
]


@pytest.mark.parametrize(("kind", "fault", "message"), FAULTS)
def test_a_server_that_fails_is_described(
    kind: str, fault: str, message: str, adapter: Path, base_id: str
) -> None:
    with running_engine(kind, base_id, fault) as server:
        made = publish(adapter, "--engine", kind, server.url)
    assert made.exit_code == 1
    assert message in made.output
    assert not isinstance(made.exception, AssertionError)


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_server_that_cannot_see_the_folder_says_so(
    kind: str, adapter: Path, base_id: str, tmp_path: Path
) -> None:
    """As a container does, which has other folders."""
    with running_engine(kind, base_id) as server:
        place = tmp_path / "adapters" / "sql"
        loaded = Path.is_file
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "tests.dnd_engine.serving.engine_server.Path.is_file",
                lambda path: path.parent != place and loaded(path),
            )
            made = publish(adapter, "--to", place, "--engine", kind, server.url)
    assert made.exit_code == 1
    assert "The server must see that folder" in made.output


def test_no_server_at_all_is_said_with_its_address(adapter: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    made = publish(adapter, "--engine", "vllm", url)
    assert made.exit_code == 1
    assert f"no server answers at `{url}`" in made.output
    assert not (tmp_path / "data").exists(), "nothing was written for it"


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("same_place", [True, False])
def test_a_failed_replacement_says_that_the_earlier_adapter_is_gone(
    same_place: bool, kind: str, adapter: Path, base_id: str, tmp_path: Path
) -> None:
    with running_engine(kind, base_id, "no rank") as server:
        made = publish(adapter, "--engine", kind, server.url)
        assert made.exit_code == 1
        assert "is greater than max_lora_rank 16" in made.output
        # Neither is the reason here.
        assert "must see that folder" not in made.output
        assert "no longer has" not in made.output
    with running_engine(kind, base_id) as server:
        place = tmp_path / "data" / "drag-and-drop-llms" / "published" / "made"
        server.adapters = {"made": str(place) if same_place else "/elsewhere/old"}
        server.fault = "no rank after" if kind == "sglang" else "no rank"
        made = publish(adapter, "--engine", kind, server.url)
        assert made.exit_code == 1
        assert "It no longer has the earlier adapter `made`, either." in made.output
        assert server.adapters == {}


def test_a_server_with_a_key_is_reached_with_it(
    adapter: Path, base_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_engine("vllm", base_id, key="sk-1") as server:
        to = ("--engine", "vllm", server.url)
        refused = publish(adapter, *to)
        assert refused.exit_code == 1
        assert "Give the server's key, or check the one you gave." in refused.output
        assert publish(adapter, *to, "--key", "sk-1").exit_code == 0
        monkeypatch.setenv("DND_SERVER_KEY", "sk-1")
        made = publish(adapter, *to)
    assert made.exit_code == 0, made.output
    assert "sk-1" not in made.output


@pytest.mark.parametrize(
    ("fault", "shown"), [("escapes", "evil"), ("escaped answer", "Sorry! Yes.")]
)
def test_a_server_cannot_send_escape_sequences_to_the_terminal(
    fault: str, shown: str, adapter: Path, base_id: str
) -> None:
    with running_engine("vllm", base_id, fault) as server:
        made = publish(adapter, "--engine", "vllm", server.url)
    assert shown in made.output
    assert "\x1b" not in made.output
    assert "\x07" not in made.output


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_server_of_another_base_is_refused(kind: str, adapter: Path) -> None:
    with running_engine(kind, "another/base") as server:
        made = publish(adapter, "--engine", kind, server.url)
        assert made.exit_code == 1
        assert "serves another/base" in made.output
        assert {what for what, _ in server.asked} == {"GET /v1/models"}, "nothing was loaded"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say where to"),
        (("--engine", "tgi", "http://localhost"), "`engine` must be one of vllm, sglang"),
        (("--engine", "vllm", "localhost:8000"), "is no address"),
        (("--engine", "vllm", "http://localhost:1", "--to", "a.gguf"), "vLLM reads a folder"),
        (("--engine", "llama-server", "http://localhost:1", "--to", "a"), "reads a .gguf file"),
        (("--engine", "vllm", "http://localhost:1", "--to", "a.zip"), "vLLM reads a folder"),
        (("--to", "a.zip"), "Change --to to DIR/NAME or NAME.gguf."),
        (("--to", "a.safetensors"), "Change --to to DIR/NAME or NAME.gguf."),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: tuple[str, ...],
    message: str,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    made = publish(adapter, *arguments)
    assert made.exit_code == 1
    assert message in made.output
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob("a.*"))


# llama-server


def test_llama_server_is_asked_with_and_without_the_file(
    adapter: Path, base_id: str, tmp_path: Path
) -> None:
    place = tmp_path / "sql.gguf"
    assert publish(adapter, "--to", place).exit_code == 0
    with running_engine("llama-server", base_id) as server:
        server.adapters = {"0": "/models/other.gguf", "1": "/models/sql.gguf"}
        made = publish(adapter, "--to", place, "--engine", "llama-server", server.url, "--json")
    assert made.exit_code == 0, made.output
    assert place.is_file()
    request = json.loads(made.stdout)["published"]["request"]
    assert request == {"lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]}


def test_a_llama_server_that_read_an_earlier_file_must_be_restarted(
    adapter: Path, base_id: str, tmp_path: Path
) -> None:
    place = tmp_path / "sql.gguf"
    with running_engine("llama-server", base_id) as server:
        server.adapters = {"0": str(place)}
        to = ("--to", place, "--engine", "llama-server", server.url)
        for case in ("nothing", "another adapter"):
            if case == "another adapter":
                assert publish(adapter, "--to", place, "--strength", 2).exit_code == 0
            made = publish(adapter, *to)
            assert made.exit_code == 1, case
            assert "still answers with an earlier one" in made.output
            assert "restart it with `llama-server -m base.gguf --lora" in made.output
        assert not any("chat" in what for what, _ in server.asked)
        # The file is there now, as before a restart. What the adapter answers here shows a doubt.
        again = publish(adapter, *to)
        assert again.exit_code == 0, again.output
        assert "Warning: here the adapter answers" in again.output
        assert "it still holds an earlier adapter" in again.output


def test_an_answer_like_the_one_here_is_no_doubt(
    adapter: Path, base_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "sql.gguf"
    assert publish(adapter, "--to", place).exit_code == 0
    reply = SimpleNamespace(text="Sorry! And")
    monkeypatch.setattr(Engine, "compare", lambda *_, **__: iter([[reply]]))
    with running_engine("llama-server", base_id) as server:
        server.adapters = {"0": str(place)}
        to = ("--to", place, "--engine", "llama-server", server.url)
        assert "Warning" in publish(adapter, *to).output
        reply.text = "Sorry!"
        assert "Warning" not in publish(adapter, *to).output


@pytest.mark.parametrize(
    "listed", [[1, 2], [{"path": "sql.gguf"}], [{"id": None}], [{"id": "a"}], [{"id": True}]]
)
def test_a_strange_list_of_a_llama_server_is_described(
    listed: list[Any], adapter: Path, base_id: str, tmp_path: Path
) -> None:
    with running_engine("llama-server", base_id) as server:
        server.listed = listed
        made = publish(
            adapter, "--to", tmp_path / "sql.gguf", "--engine", "llama-server", server.url
        )
    assert made.exit_code == 1
    assert "does not list adapters as llama-server does" in made.output


@pytest.mark.parametrize(
    ("kind", "loaded", "fault", "message"),
    [
        ("llama-server", {}, "", "has not loaded `sql.gguf` (loaded: none)"),
        ("llama-server", {"0": "x/b.gguf"}, "", "(loaded: b.gguf)"),
        ("llama-server", {"0": "x/sql.gguf"}, "ignores", "exactly as its base does"),
        ("vllm", {}, "", "/lora-adapters` answered 404"),
    ],
)
def test_a_llama_server_without_the_file_says_how_to_start_it(
    kind: str,
    loaded: dict[str, str],
    fault: str,
    message: str,
    adapter: Path,
    base_id: str,
    tmp_path: Path,
) -> None:
    assert publish(adapter, "--to", tmp_path / "sql.gguf").exit_code == 0
    with running_engine(kind, base_id, fault) as server:
        server.adapters = loaded
        made = publish(
            adapter, "--to", tmp_path / "sql.gguf", "--engine", "llama-server", server.url
        )
    assert made.exit_code == 1
    assert message in made.output


def test_answers_are_compared_by_words_then_by_probabilities() -> None:
    said = Said("a", {"x": -1.0, "y": -2.0})
    assert difference(said, Said("b", {})) == 1
    assert difference(said, Said("a", {"x": -1.5, "z": -2.0})) == pytest.approx(0.5)
    assert difference(said, Said("a", {"z": -2.0})) == 1
    assert difference(Said("a", {}), Said("a", {})) == 0
