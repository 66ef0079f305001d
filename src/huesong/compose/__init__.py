"""A picture in, music out: for the console, the registered model and the components."""

from huesong.compose.composer import Composer, Prompt, compose, sampling_config

__all__ = ["Composer", "Prompt", "compose", "sampling_config"]
