"""Models on the hub: pushed with a card, fetched by name, refused in one line; over real HTTP, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from huesong.compose.output import hub
from huesong.runtime.errors import UserError
from tests.hub_server import Hub, hub_server


def python(server: Hub, home: Path, code: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"HF_TOKEN": token} if token else {}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=home, check=False)


@pytest.mark.slow
def test_a_model_pushed_to_a_hub_is_fetched_by_name(folder: Path, tmp_path: Path) -> None:
    push = f"from huesong import Composer; print(Composer.load({str(folder)!r}).push('someone/small', private=True))"
    fetch = (
        "from huesong import Composer; c = Composer.load('someone/small'); p = c.compose(valence=0.5, arousal=-0.5, seconds=5)\n"
        "p.save('a.mid'); print(c.name)"
    )
    with hub_server() as server:
        done = python(server, tmp_path, push, server.token)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{server.url}/someone/small/commit/")
        files = server.models["someone/small"]
        assert {name for name in files if name.endswith((".safetensors", ".json"))} == {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix in (".safetensors", ".json")
        }
        _, head, body = files["README.md"].decode().split("---\n", 2)
        card = yaml.safe_load(head)
        assert card["library_name"] == "huesong"
        assert card["pipeline_tag"] == "other"
        assert card["license"]
        assert 'Composer.load("someone/small")' in body
        files["evil.pkl"] = b"not fetched"
        done = python(server, tmp_path, fetch, server.token)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "someone/small\n"
        assert (tmp_path / "a.mid").stat().st_size > 100
        assert not list(tmp_path.rglob("evil.pkl"))
        done = python(
            server, tmp_path / "..", "from huesong import Composer; Composer.load('someone/smal')", server.token
        )
        assert "UserError: someone/smal is no folder here, and was not found on the hub" in done.stderr
        done = python(server, tmp_path, push, "hf_wrong")
        assert "UserError: someone/small was not pushed" in done.stderr
        assert "hf_wrong" not in done.stderr


def test_what_is_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert hub.is_name("someone/small")
    for other in ("models/mine", "models:/huesong@champion", "/models/mine", "../models", "a/b/c", "small"):
        assert not hub.is_name(other), other


def test_no_model_of_unstated_licences_is_pushed(tmp_path: Path) -> None:
    row = {"source": "eimg", "licence": "not stated", "items": 1, "kind": "pictures", "labels": "none"}
    (tmp_path / "config.json").write_text(json.dumps({"training": {"data": [row]}}))
    with pytest.raises(UserError, match="was trained on eimg, whose licence is not stated"):
        hub.push(tmp_path, "someone/small")
    with pytest.raises(UserError, match="small is no name of the hub: give user/name"):
        hub.push(tmp_path, "small")


def test_a_card_tells_the_hub_data_and_figures(tmp_path: Path) -> None:
    config = {
        "training": {
            "data": [{"source": "emopia", "licence": "CC BY 4.0"}],
            "metrics": {"picture_val_valence_ccc": 0.5},
        }
    }
    (tmp_path / "README.md").write_text("---\nlicense: old\n---\n\n# Mine\n")
    text = hub.card_of(tmp_path, "someone/small", config)
    card = yaml.safe_load(text.split("---\n")[1])
    assert card["datasets"] == ["emopia"]
    result = card["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == 0.5
    assert "# Mine" in text
    assert "license: old" not in text
