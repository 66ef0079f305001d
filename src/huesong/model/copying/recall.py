"""What the bar that the plan refers to has next, as an input of the network at every token.

The head of a bar says whether it repeats, varies or transposes an earlier one, and how many bars back that one stands.
`Recall` follows that reference by itself: it finds the token that came, in the earlier bar, after the same place, and adds
its embedding, through one learnt matrix, to that of the present token. The network need not learn where to look, only
what to make of what was there; a plain Transformer of this size learns to look back only after hours ("induction heads",
Olsson et al. 2022). It is an attention head whose pattern is given and not learnt (as in MELONS, Zou et al. 2022, which
feeds the bar that is referred to), and costs one embedding and one matrix product a token.

A place is the last `Position` since the bar line and the number of tokens since. Nothing after a token is looked at.

Shapes: B rows, T tokens, K tokens so far, D width, V vocabulary.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from huesong.model.decoding.history import SINCE, WHOLE_BAR, BarTokens


class Recall(nn.Module):
    """The learnt matrix, and the search; the matrix begins as zeros, so that a trained network may gain it later."""

    def __init__(self, width: int, bars: BarTokens) -> None:
        super().__init__()
        self.project = nn.Linear(width, width, bias=False)
        self.bars = bars
        tables = ("opens_V", bars.opens_V), ("position_V", bars.position_V), ("back_V", bars.back_V)
        for name, table in tables:  # made of the vocabulary, so not kept with the weights
            self.register_buffer(name, torch.tensor(table.astype(np.int64), device="cpu"), persistent=False)
        self.opens_V: Tensor
        self.position_V: Tensor
        self.back_V: Tensor

    def forward(self, ids_BT: Tensor, embedding: nn.Embedding) -> Tensor:
        """What is added to the embedded tokens [B, T, D]."""
        following_BT, found_BT = self.find(ids_BT)
        embedded_BTD = embedding(following_BT) * math.sqrt(embedding.embedding_dim)
        return self.project(embedded_BTD) * found_BT[..., None].to(embedded_BTD.dtype)

    @torch.no_grad()
    def find(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The id that came after the same place in the bar referred to [B, T], and whether there is one."""
        keys_BT, wanted_BT = self._places(ids_BT)
        found_BT = wanted_BT >= WHOLE_BAR  # the first bar is number 1
        after_BT = torch.searchsorted(keys_BT, wanted_BT, right=True)  # one after the last key that is no larger
        return ids_BT.gather(1, after_BT.clamp(max=ids_BT.shape[1] - 1)), found_BT

    def _places(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The key of each token, and the key of the same place in the bar referred to (negative: none)."""
        opens_BT, position_BT, said_BT = self.opens_V[ids_BT], self.position_V[ids_BT], self.back_V[ids_BT]
        bar_BT = opens_BT.cumsum(dim=1)
        order_T = torch.arange(1, ids_BT.shape[1] + 1, device=ids_BT.device)

        def latest(sets_BT: Tensor, value_BT: Tensor, before: int) -> tuple[Tensor, Tensor]:
            """The value where it was set last, and how long ago (counted from before the first token if never)."""
            at_BT = torch.where(sets_BT, order_T, 0).cummax(dim=1).values
            value_BT = torch.where(at_BT > 0, value_BT.gather(1, (at_BT - 1).clamp(min=0)), before)
            return value_BT, order_T - at_BT

        place_BT, since_BT = latest((opens_BT > 0) | (position_BT >= 0), position_BT, -1)
        back_BT, _ = latest((opens_BT > 0) | (said_BT >= 0), said_BT.clamp(min=0), 0)
        within_BT = (place_BT + 1) * SINCE + since_BT.clamp(max=SINCE - 1)
        # Ascending whatever the tokens are: so no token can see one that comes after it.
        keys_BT = (bar_BT * WHOLE_BAR + within_BT).cummax(dim=1).values
        return keys_BT, torch.where(back_BT > 0, (bar_BT - back_BT) * WHOLE_BAR + within_BT, -1)
