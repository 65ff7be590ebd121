"""Published figures: each has a source that can be looked up, and ours agree with the recorded table."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from tritonlab import data
from tritonlab.errors import TritonlabError
from tritonlab.published import COLUMNS, published


def test_each_figure_says_who_measured_what_where_and_when() -> None:
    table = published()
    assert list(table) == list(COLUMNS)
    assert table.notna().all().all()
    assert (table.drop(columns="value").astype(str) != "").all().all()
    assert (table.value > 0).all()
    assert table.url.str.match(r"https://|data/").all()
    assert table.read.str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    assert table.date.map(lambda date: bool(re.fullmatch(r"20\d\d-\d\d-\d\d|not stated; .*", date))).all()
    assert not table.duplicated(["by", "engine", "model", "hardware", "load", "unit"]).any()


def test_ours_are_those_of_the_recorded_table() -> None:
    ours = published(url="data/", engine="Triton")
    recorded = pd.read_csv(data("h200-triton-vllm-8b.csv"), comment="#")
    for row in recorded.itertuples():
        for way in ("generate", "generate_stream"):
            [value] = ours[ours.load == f"128 in, 256 out, {row.concurrency} at once, {way}"].value
            assert value == getattr(row, f"{way}_tokens_per_s")
    assert len(ours) == 2 * len(recorded)


def test_figures_are_found_by_words() -> None:
    found = published(by="nvidia", hardware="h200", model="8B")
    assert set(found.by) == {"NVIDIA"}
    assert list(found.index) == list(range(len(found)))
    assert published(model="no such model").empty
    with pytest.raises(TritonlabError, match="no column 'gpu'"):
        published(gpu="H200")
