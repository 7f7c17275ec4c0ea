"""LoRA adapters on one base model, switched rather than copied (peft)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import ModelError
from ragpool.models.resolve import file_digest
from ragpool.models.runtime import quiet_transformers

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

_WEIGHTS = "adapter_model.safetensors"


class Adapters:
    """The adapters of ``model``; peft is imported with the first one.

    peft puts its layers into ``model`` itself, so forward passes keep going through ``model``. With no
    adapter in use those layers call the base layers and nothing else: the output is bit-identical.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.versions: dict[str, str] = {}
        self._model = model
        self._peft: Any = None  # a PeftModel, whose methods reach mypy as tensors
        self._active: str | None = None

    def check(self, name: str | None) -> None:
        """Raises ModelError when no adapter called ``name`` is loaded."""
        if name is not None and name not in self.versions:
            loaded = ", ".join(sorted(self.versions)) or "none"
            raise ModelError(f"no adapter {name!r} is loaded (loaded: {loaded}); call load_adapter first")

    def version(self, name: str | None) -> str:
        """``name@12 hex digits`` of a loaded adapter; empty for the base model."""
        return "" if name is None else self.versions[name]

    def load(self, name: str, folder: Path) -> str:
        """Read an adapter's files into the base model's layers, without using it yet; its version."""
        if not name.isidentifier():  # it becomes part of the layers' names
            raise ModelError(f"{name!r} cannot name an adapter; use letters, digits and underscores")
        weights = folder / _WEIGHTS
        if not weights.is_file() or not (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder} holds no adapter_config.json and {_WEIGHTS}; give the folder that peft saved"
            )
        version = f"{name}@{file_digest(weights)[:12]}"
        if self.versions.get(name) == version:
            return version
        if name in self.versions:
            raise ModelError(f"another adapter is already loaded as {name!r}; choose another name")
        from peft import PeftConfig, PeftModel
        from safetensors import SafetensorError

        first = self._peft is None
        try:
            with quiet_transformers():
                config = PeftConfig.from_pretrained(str(folder))
                _check_config(config, folder)
                if self._peft is None:
                    config.inference_mode = True
                    self._peft = PeftModel(self._model, config, adapter_name=name)
                    self._peft.base_model.disable_adapter_layers()
                result = self._peft.load_adapter(str(folder), name, torch_device=str(self._model.device))
                # peft lists every key in which the name occurs anywhere, other adapters' among them
                missing = [key for key in result.missing_keys if f".{name}." in key]
                if odd := [*missing, *result.unexpected_keys]:
                    raise ValueError(f"{len(odd)} weights are missing or have no place, such as {odd[0]}")
        except (ValueError, RuntimeError, OSError, KeyError, TypeError, SafetensorError) as error:
            self._discard(name, first=first)
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"the adapter in {folder} does not fit the base model ({reason}); train it for this model"
            ) from error
        self._peft.eval()
        self.versions[name] = version
        return version

    def _discard(self, name: str, first: bool) -> None:
        """Leave the base model as it was before a failed load."""
        if self._peft is None or name not in self._peft.peft_config:
            return
        if first:
            self._peft.unload()
            self._peft = None
        else:
            self._peft.delete_adapter(name)

    def use(self, name: str | None) -> None:
        """Make ``name`` (None: the bare base model) what the next forward pass uses. Free when it is already."""
        if name == self._active or self._peft is None:
            return
        self.check(name)
        tuner = self._peft.base_model
        if name is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            tuner.set_adapter(name, inference_mode=True)
        self._active = name


def _check_config(config: PeftConfig, folder: Path) -> None:
    if config.peft_type != "LORA":
        raise ModelError(f"{folder} holds a {config.peft_type} adapter; only LoRA adapters can be switched")
    if getattr(config, "bias", "none") != "none":  # biases are replaced in the base model itself
        raise ModelError(
            f"the adapter in {folder} trains biases, so it cannot be switched off; use bias='none'"
        )
