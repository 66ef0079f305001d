"""Valence and arousal of pictures without a single rating: a model of pictures and texts compares them with sentences.

CLIP (Radford et al., ICML 2021) and SigLIP (Zhai et al., ICCV 2023) lay pictures and sentences into one space. An axis is
the direction between sentences of its two ends; how near a picture is to either is read as the model was trained to tell
sentences apart. What the figures are worth depends on the model: `huesong pictures check NAME --zero-shot`.

Shapes: N pictures, H = W side in pixels, D size of the space; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from huesong.pictures.backbones import KNOWN, Triple, image_and_text, input_of
from huesong.pictures.encoders import squash
from huesong.runtime.errors import UserError

TEMPLATES = ("a {} picture", "a {} photo", "a photo of something {}", "a picture that makes one feel {}")
ANCHORS = (
    (
        ("pleasant", "happy", "beautiful", "lovely", "joyful"),
        ("unpleasant", "sad", "disgusting", "terrible", "miserable"),
    ),
    (("exciting", "thrilling", "intense", "frightening", "lively"), ("calm", "boring", "peaceful", "dull", "quiet")),
)
"""Valence and arousal: the words of the upper and of the lower end."""
Ends = tuple[np.ndarray, np.ndarray]


class ZeroShot:
    """Reads pictures by sentences; made by `load`. It passes for an encoder whose features are valence and arousal."""

    kind = "features"

    def __init__(self, name: str, model: Any, ends: Sequence[Ends], side: int, mean: Triple, sd: Triple) -> None:
        self.name, self.side = name, side
        self._model, self._ends, self._mean, self._sd = model, ends, np.array(mean), np.array(sd)
        self._scale = float(model.logit_scale.exp())

    @classmethod
    def load(cls, name: str) -> ZeroShot:
        """From a folder with model and tokenizer, or the hub.

        Raises:
            UserError: no such model, or it knows no texts.
        """
        if name in KNOWN:
            raise UserError(
                f"{name} knows no texts: by sentences read CLIP and SigLIP, such as openai/clip-vit-base-patch32"
            )
        model, tokenizer, own = image_and_text(name)
        side, mean, sd = input_of(model.config.to_dict(), own)
        ends = [(_centre(model, tokenizer, upper), _centre(model, tokenizer, lower)) for upper, lower in ANCHORS]
        return cls(name, model, ends, side, mean, sd)

    def read(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures of any sizes -> va [N, 2] in [-1, 1]: twice the probability of the upper end, less one."""
        import torch

        found = np.zeros((len(images), 2))
        for row, image in enumerate(images):
            values = (squash(image, self.side).astype(np.float32) / 255.0 - self._mean) / self._sd
            pixels = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
            with torch.inference_mode():
                place_D = _unit(_features(self._model.get_image_features(pixel_values=pixels)))[0]
            for axis, (upper_D, lower_D) in enumerate(self._ends):
                found[row, axis] = np.tanh(self._scale * float(place_D @ (upper_D - lower_D)) / 2)
        return found

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """As features [N, 1, 2]."""
        return self.read(images)[:, None]


def _centre(model: Any, tokenizer: Any, words: Sequence[str]) -> np.ndarray:
    """The direction [D] of the sentences with these words."""
    import torch

    sentences = [template.format(word) for word in words for template in TEMPLATES]
    longest = int(model.config.text_config.max_position_embeddings)
    # SigLIP was trained on sentences that were filled up to their greatest length.
    padding = "max_length" if model.config.model_type == "siglip" else True
    ids = tokenizer(sentences, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    given = {"input_ids": ids["input_ids"]} | (
        {} if padding == "max_length" else {"attention_mask": ids["attention_mask"]}
    )
    with torch.inference_mode():
        places_SD = _unit(_features(model.get_text_features(**given)))
    found: np.ndarray = _unit(places_SD.mean(axis=0, keepdims=True))[0]
    return found


def _features(output: Any) -> np.ndarray:
    """Of transformers 4 a tensor, of 5 an output that holds it."""
    found: np.ndarray = getattr(output, "pooler_output", output).float().numpy()
    return found


def _unit(x_ND: np.ndarray) -> np.ndarray:
    found: np.ndarray = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    return found
