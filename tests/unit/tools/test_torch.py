"""When the environment of the tests of PyTorch is made anew."""

from pathlib import Path

import pytest

from tools import torch


def test_it_is_made_anew_where_what_it_needs_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.digest()
    monkeypatch.setattr(torch, "NEEDS", tmp_path / "needs.txt")
    torch.NEEDS.write_text("torch==1.0")

    assert torch.digest() != before
    assert torch.digest() == torch.digest()


def test_nothing_is_done_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "VENV", tmp_path)
    (tmp_path / "skipper-stamp").write_text(torch.digest())

    torch.make()
    assert [file.name for file in tmp_path.iterdir()] == ["skipper-stamp"]


def test_what_it_needs_is_pinned() -> None:
    pins = [line for line in torch.NEEDS.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert {pin.partition("==")[0] for pin in pins} >= {"torch", "transformers", "safetensors"}
