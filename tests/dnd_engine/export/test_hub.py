"""Pushing to the model hub: the real client, against a small hub on this machine."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from peft import PeftModel

from dnd_engine.errors import HubError
from dnd_engine.export.hub import check_repo_id, find_token, push_files
from tests.dnd_engine.hub_server import READ_TOKEN, TOKEN, Hub
from tests.dnd_engine.tiny import delta, make_adapter, tiny_llama

REPO = "someone/sql"


def test_what_arrives_loads_with_stock_peft(hub: Hub, tmp_path: Path) -> None:
    adapter = make_adapter(seed=3, strength=0.5)
    url, private = push_files(adapter.files(place=REPO), REPO, TOKEN, private=True)
    assert (url, private) == (f"{hub.url}/{REPO}", True)
    arrived = hub.files[REPO]
    assert arrived == adapter.files(place=REPO)
    assert f'PeftModel.from_pretrained(base, "{REPO}")' in arrived["README.md"].decode()
    # The weights went as a large file, checked by their hash, not inside the commit.
    assert list(hub.blobs.values()) == [arrived["adapter_model.safetensors"]]
    for name, data in arrived.items():
        (tmp_path / name).write_bytes(data)
    model = PeftModel.from_pretrained(tiny_llama(), str(tmp_path))
    merged = dict(model.merge_and_unload().named_parameters())
    base = dict(tiny_llama().named_parameters())
    for path, change in delta(adapter.state, adapter.layout, torch.float32).items():
        expected = base[f"{path}.weight"] + change
        torch.testing.assert_close(merged[f"{path}.weight"], expected, rtol=0, atol=1e-5)


def test_a_second_push_replaces_the_files(hub: Hub) -> None:
    for seed in (1, 2):
        push_files(make_adapter(seed=seed).files(), REPO, TOKEN, private=True)
    assert hub.files[REPO] == make_adapter(seed=2).files()


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_private_or_public_as_asked(hub: Hub, private: bool) -> None:
    assert push_files(make_adapter().files(), REPO, TOKEN, private)[1] is private
    assert hub.private == {REPO: private}


def test_nothing_private_is_put_into_a_public_repository(hub: Hub) -> None:
    hub.private[REPO], hub.files[REPO] = False, {}
    with pytest.raises(HubError, match=r"`someone/sql` exists and is public, so nothing was"):
        push_files(make_adapter().files(), REPO, TOKEN, private=True)
    assert hub.files[REPO] == {}
    assert not any("preupload" in asked or "batch" in asked for asked in hub.asked)


def test_the_login_of_this_machine_is_used_and_a_given_token_comes_first(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push_files(make_adapter().files(), REPO, None, private=True)
    assert hub.files[REPO]
    with pytest.raises(HubError, match="refused"):
        push_files(make_adapter().files(), REPO, READ_TOKEN, private=True)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READ_TOKEN, r"the Hub refused `someone/sql`: the token may not write there"),
        ("hf_revoked", r"the Hub refused `someone/sql`: the token is not valid"),
        (None, r"no token for the Hugging Face Hub\. Log in with `hf auth login`"),
        ("hf_two\nlines", r"the token holds letters that no token has"),
        ("hf_ü", r"the token holds letters that no token has"),
    ],
)
def test_a_token_that_will_not_do_is_told_in_words_and_never_quoted(
    hub: Hub, token: str | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HubError, match=message) as raised:
        push_files(make_adapter().files(), REPO, token, private=True)
    told = f"{raised.value} {raised.value.__cause__} {caplog.text}"
    assert token is None or token not in told
    assert hub.files == {}


@pytest.mark.parametrize("name", ["sql", "a/b/c", "some one/sql", "someone/sql.git", "/sql"])
def test_a_name_that_no_repository_can_have_is_refused_at_once(name: str) -> None:
    with pytest.raises(HubError, match=r"cannot be a repository: expected `user/name`"):
        check_repo_id(name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_asked_for(name: str) -> None:
    with pytest.raises(HubError, match=r"name the repository, as `user/name`\."):
        check_repo_id(name)


def test_a_token_pasted_with_white_space_is_taken() -> None:
    assert find_token(f" {TOKEN}\n") == TOKEN


def test_no_network_is_told_with_the_way_out(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(HubError, match=r"could not be reached: .*refused.*Check the network"):
        push_files(make_adapter().files(), REPO, TOKEN, private=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"offline mode is enabled.*HF_HUB_OFFLINE"):
        push_files(make_adapter().files(), REPO, TOKEN, private=True)


def test_a_card_that_the_hub_refuses_is_told(hub: Hub) -> None:
    files = make_adapter().files() | {"README.md": b"no front matter"}
    with pytest.raises(HubError, match=r"`someone/sql` was not uploaded: .*no metadata"):
        push_files(files, REPO, TOKEN, private=True)


def test_an_answer_that_is_not_foreseen_is_quoted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.dnd_engine.hub_server._Handler._route", lambda *given: (418, {"error": "a teapot"})
    )
    with pytest.raises(HubError, match=r"refused `someone/sql`: it answered 418, a teapot"):
        push_files(make_adapter().files(), REPO, TOKEN, private=True)
