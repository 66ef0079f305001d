"""va.clusters: which pieces are resampled together."""

import numpy as np
import pandas as pd

from huesong.va import clusters


def test_pieces_of_a_group_of_pictures_stay_together_and_those_of_the_grid_do_not() -> None:
    rows = pd.DataFrame(
        {"set": ["grid", "pictures", "grid", "pictures", "pictures"], "image_group": ["", "g2", "", "g1", "g2"]},
        index=[7, 7, 8, 9, 9],
    )
    found = clusters(rows)
    assert found[1] == found[4]
    assert len(set(found)) == 4
    assert len(set(clusters(rows[rows["set"] == "grid"].drop(columns="image_group")))) == 2
    assert clusters(rows.head(0)).tolist() == np.array([]).tolist()
