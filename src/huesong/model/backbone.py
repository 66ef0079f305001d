"""The project's own small picture backbone, `builtin`; larger ones come frozen from huesong.pictures.encoders.

Shapes: B batch, H = W side in pixels, G side of the feature grid, S = G * G image tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PictureCNN(nn.Module):
    """The project's own small CNN, `builtin`: 64 x 64 pixels to a 4 x 4 grid of features, trained with the model."""

    channels = (32, 64, 96, 128, 128)
    strides = (2, 2, 2, 2, 1)

    def __init__(self, size: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, grid = 3, size
        for channels, stride in zip(self.channels, self.strides, strict=True):
            blocks += [
                nn.Conv2d(before, channels, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, channels),  # not batch norm: a picture's tokens must not depend on its neighbours
                nn.GELU(),
            ]
            before, grid = channels, -(-grid // stride)
        self.pool = -(-grid // 4)  # larger pictures: average-pool to at most 4 x 4
        self.grid = -(-grid // self.pool)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pixels_BHW3: Tensor) -> Tensor:
        """[B, S, C] features of uint8 pixels."""
        scaled_B3HW = (pixels_BHW3.movedim(-1, 1).to(next(self.parameters()).dtype) / 255 - 0.5) / 0.25
        grid_BCGG = self.blocks(scaled_B3HW)
        if self.pool > 1:
            grid_BCGG = F.avg_pool2d(grid_BCGG, self.pool, ceil_mode=True)
        return grid_BCGG.flatten(2).mT
