"""Models and tokenizers of transformers as models. Run by `make test-torch`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skipper_huggingface
from skipper.errors import FormatError
from skipper.function.model import Model
from skipper.instance.models import LoadedModels

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
Stored = Callable[[Any], Any]
WORDS = {"[PAD]": 0, "[UNK]": 1, "a": 2, "fine": 3, "day": 4}


@pytest.fixture(scope="module")
def model() -> Any:
    config = transformers.BertConfig(
        vocab_size=5,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor([[2, 3, 4]])).logits


def test_a_model_comes_back_with_its_weights(model: Any, stored: Stored) -> None:
    again = stored(model)

    torch.testing.assert_close(logits(again), logits(model), rtol=1e-5, atol=1e-7)
    for name, weights in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weights)
    assert type(again) is type(model)


def test_a_tokenizer_comes_back(tokenizer: Any, stored: Stored) -> None:
    again = stored(tokenizer)

    text = ["a fine day", "day unknown"]
    assert again(text, padding=True)["input_ids"] == tokenizer(text, padding=True)["input_ids"]


def test_both_are_parts_of_one_model(model: Any, tokenizer: Any, stored: Stored) -> None:
    again = stored({"model": model, "tokenizer": tokenizer, "labels": ["bad", "so so", "good"]})

    assert again["labels"][0] == "bad"
    torch.testing.assert_close(logits(again["model"]), logits(model), rtol=1e-5, atol=1e-7)
    assert again["tokenizer"]("a day")["input_ids"] == [2, 4]


def test_the_state_tells_whether_a_model_has_been_changed(model: Any, stored: Stored) -> None:
    again = stored(model)
    state = skipper_huggingface.skipper_model_state(format="huggingface", model=again)

    logits(again)
    assert skipper_huggingface.skipper_model_state(format="huggingface", model=again) == state
    again.classifier.bias.data += 1
    assert skipper_huggingface.skipper_model_state(format="huggingface", model=again) != state


def test_a_class_that_is_not_of_transformers_is_refused(
    model: Any, loaded_models: LoadedModels
) -> None:
    mine: Any = type("Mine", (transformers.BertModel,), {})

    with pytest.raises(FormatError, match="Mine is no class of transformers itself"):
        loaded_models.save(Model("sample", mine(model.config)))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "inner/extra.pkl"])
def test_what_could_run_code_is_not_loaded(model: Any, tmp_path: Path, name: str) -> None:
    skipper_huggingface.skipper_save_model(value=model, folder=tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(FormatError, match="which could run code"):
        skipper_huggingface.skipper_load_model(format="huggingface", folder=tmp_path)


@pytest.mark.parametrize(
    "name", ["pipeline", "AutoModel", "Trainer", "os", "BertModel.from_pretrained", 5, None]
)
def test_a_forged_class_is_not_called(model: Any, tmp_path: Path, name: Any) -> None:
    skipper_huggingface.skipper_save_model(value=model, folder=tmp_path)
    (tmp_path / "skipper.json").write_text(json.dumps({"class": name}))

    with pytest.raises(FormatError, match=r"is no model or tokenizer|cannot be loaded"):
        skipper_huggingface.skipper_load_model(format="huggingface", folder=tmp_path)


def test_code_that_a_configuration_names_is_not_fetched(model: Any, tmp_path: Path) -> None:
    skipper_huggingface.skipper_save_model(value=model, folder=tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["auto_map"] = {"AutoModel": "somebody/there--modeling.Evil"}
    file.write_text(json.dumps(config))

    loaded = skipper_huggingface.skipper_load_model(format="huggingface", folder=tmp_path)
    assert type(loaded) is type(model)


@pytest.mark.parametrize("how", ["truncated", "missing", "empty", "a bit flipped"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "skipper.json"])
def test_a_damaged_model_is_told_in_a_sentence(
    model: Any, tmp_path: Path, name: str, how: str
) -> None:
    skipper_huggingface.skipper_save_model(value=model, folder=tmp_path)
    file = tmp_path / name
    data = file.read_bytes()
    file.unlink()
    if how != "missing":
        flipped = bytes([data[0] ^ 255]) + data[1:]
        file.write_bytes({"truncated": data[: len(data) // 2], "empty": b""}.get(how, flipped))

    with pytest.raises(FormatError, match="cannot be loaded"):
        skipper_huggingface.skipper_load_model(format="huggingface", folder=tmp_path)
