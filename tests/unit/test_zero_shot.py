"""Pictures are read by sentences as the model itself compares them, from a folder on disk, by the real loading code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.pictures import zero_shot
from huesong.pictures.zero_shot import ANCHORS, TEMPLATES, ZeroShot
from huesong.runtime.errors import UserError
from tests.unit.test_encoders import noise

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = sorted({word for ends in ANCHORS for end in ends for word in end} | set(" ".join(TEMPLATES).split()) - {"{}"})


def saved(name: str, folder: Path) -> Path:
    """A tiny model with random weights and a tokenizer of whole words, as save_pretrained leaves them."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    vocabulary = {"<pad>": 0, "<end>": 1, "<none>": 2} | {word: 3 + row for row, word in enumerate(WORDS)}
    text = {**SMALL, "vocab_size": len(vocabulary), "max_position_embeddings": 12, "pad_token_id": 0, "eos_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    model: Any
    if name == "clip":
        model = t.CLIPModel(t.CLIPConfig(text_config={**text, "projection_dim": 8},
                                         vision_config={**vision, "projection_dim": 8}, projection_dim=8))  # fmt: skip
    else:
        model = t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=vision))
    for parameter in model.parameters():  # as they are made, all sentences and pictures are nearly alike
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.eval().save_pretrained(folder)
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<none>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    t.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<none>"
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_it_reads_as_the_model_compares(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers as t

    folder = saved(name, tmp_path)
    monkeypatch.setattr(zero_shot, "TEMPLATES", ("a {} picture",))
    monkeypatch.setattr(zero_shot, "ANCHORS", ((("happy",), ("sad",)), (("exciting",), ("calm",))))
    pictures = [noise(seed, (32, 32)) for seed in range(3)]
    reader = ZeroShot.load(str(folder))
    found = reader.read(pictures)
    model = t.AutoModel.from_pretrained(folder).eval()
    words = t.AutoTokenizer.from_pretrained(folder)
    texts = [f"a {word} picture" for word in ("happy", "sad", "exciting", "calm")]
    filled = {"padding": "max_length", "max_length": 12} if name == "siglip" else {"padding": True}
    ids = words(texts, return_tensors="pt", **filled)
    mean, sd = (np.array(values, np.float32) for values in (reader._mean, reader._sd))
    pixels = np.stack([(np.asarray(picture, np.float32) / 255 - mean) / sd for picture in pictures])
    given = {"attention_mask": ids["attention_mask"]} if name == "clip" else {}
    with torch.inference_mode():
        logits = model(
            input_ids=ids["input_ids"], pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2)), **given
        ).logits_per_image
    for axis in range(2):
        upper = logits[:, 2 * axis : 2 * axis + 2].softmax(dim=1)[:, 0].numpy()
        assert found[:, axis] == pytest.approx(2 * upper - 1, abs=1e-4)
    assert np.ptp(found, axis=0).min() > 1e-3, "pictures are told apart"
    assert np.array_equal(reader.encode(pictures), found[:, None])


def test_all_anchors_are_in_range(tmp_path: Path) -> None:
    folder = saved("clip", tmp_path)
    reader = ZeroShot.load(str(folder))
    found = reader.read([Image.new("RGB", (50, 20), "red"), noise()])
    assert found.shape == (2, 2)
    assert (np.abs(found) <= 1).all()
    noise().save(tmp_path / "photo.png")
    done = CliRunner().invoke(
        app, ["pictures", "read", str(folder), str(tmp_path / "photo.png")], catch_exceptions=False
    )
    assert f"photo.png  valence {found[1, 0]:+.2f}  arousal {found[1, 1]:+.2f}" in done.output


def test_models_without_texts_are_refused(tmp_path: Path) -> None:
    import transformers as t

    t.ViTModel(t.ViTConfig(image_size=32, patch_size=16, **SMALL)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is of type vit, which knows no texts: give one of clip, siglip"):
        ZeroShot.load(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        ZeroShot.load(str(tmp_path / "empty"))
    folder = saved("siglip", tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match="cannot load its tokenizer"):
        ZeroShot.load(str(folder))


def test_what_cannot_read_by_sentences_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="efficientnet_lite2 knows no texts: by sentences read CLIP and SigLIP"):
        ZeroShot.load("efficientnet_lite2")
    with pytest.raises(UserError, match="'clip': no such folder, and not a hub name"):
        ZeroShot.load("clip")
    found = CliRunner().invoke(app, ["pictures", "read", "clip", str(tmp_path)])
    assert isinstance(found.exception, UserError)
    assert "holds no pictures" in str(found.exception)
