"""One settings tree. Sources, the later wins: defaults, a TOML file, environment (``RAGPOOL_``), keywords.

A typo in any of them fails at load with the name of the field. The environment is read here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ragpool.errors import SettingsError

Effort = Literal["low", "medium", "high"]
Mode = Literal["hybrid", "dense", "bm25"]
Method = Literal["ragpool", "single"]

CONFIG_FILE = "ragpool.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    """Which models run, and where."""

    chat: str = "embedded"  # embedded | a local folder or .gguf | a hub name | provider:model[@base_url]
    embedder: str = "embedded"  # embedded | a local folder | a hub name
    api_key: SecretStr | None = None  # for provider:model; without it the provider's own variable is read
    temperature: float = Field(0.0, ge=0, le=2)
    timeout: float = Field(60.0, gt=0)  # seconds a call to a remote model may take
    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: float32 on a CPU, else bfloat16
    threads: int | None = Field(None, ge=1)  # CPU threads of the local models; None leaves torch's choice
    prefix_memory: int = Field(512, ge=0)  # MB in which a local model keeps prompts that it has read; 0: none
    prefix_folder: Path | None = None  # where long prompts are kept on disk; None: nowhere
    allow_download: bool = False  # a hub name may be fetched over the network
    # a folder with your own plan/, reader/, spans/, judge/ or heads/ (ragpool train); what is not there is the shipped one
    weights: Path | None = None
    cache: Path | None = None  # where dequantised copies of GGUF files go; None: the user's cache folder


class IndexSettings(_Section):
    """How documents become passages and vectors."""

    chunk_size: int = Field(1600, ge=200)  # characters; a shorter document stays one passage
    chunk_overlap: int = Field(160, ge=0)
    batch_tokens: int = Field(4096, ge=256)  # padded tokens in one embedding batch


class RetrieveSettings(_Section):
    """How one query finds passages."""

    mode: Mode = "hybrid"
    k: int = Field(8, ge=1, le=200)  # passages of round 0
    gap_k: int = Field(3, ge=1, le=200)  # passages of each later query
    rrf_k: int = Field(60, ge=1)  # the constant of reciprocal rank fusion
    fetch: int = Field(50, ge=1)  # how deep each retriever looks before fusion


class JudgeSettings(_Section):
    """The feedback model."""

    kind: Literal["trained", "prompted", "rules"] = "trained"
    threshold: float | None = Field(None, ge=0, le=1)  # None: the effort preset's calibrated threshold


class PlannerSettings(_Section):
    """How the question becomes triples. auto: by the trained planner with the embedded model, by a prompt to any other one."""

    kind: Literal["auto", "rules"] = "auto"


class KVSettings(_Section):
    """How a local model's KV cache is compressed while it answers (docs/generator.md); ``ratio`` or ``tokens``."""

    # the names of ragpool.kvcache.METHOD_NAMES, and auto: off for short prompts, critic-rag for long ones
    method: Literal[
        "off", "auto", "critic-rag", "reprefill", "critic", "snapkv", "snapkv-blind",
        "expected", "h2o", "tova", "keydiff", "knorm", "streaming", "random",
    ] = "off"  # fmt: skip
    ratio: float | None = Field(None, ge=0, lt=1)  # of the cache that is evicted; None: 0.75
    tokens: int | None = Field(None, ge=1)  # cache positions that are kept, in place of a ratio
    start: int = Field(1024, ge=0)  # prompts shorter than this stay whole
    int8: bool = False  # what is kept is stored in 8 bits
    every: int | None = Field(None, ge=1)  # tokens written after which the cache is cut back to its size

    @model_validator(mode="after")
    def _one_amount(self) -> KVSettings:
        if self.ratio is not None and self.tokens is not None:
            raise ValueError("give ratio or tokens, not both")
        if self.int8 and self.every is not None:
            raise ValueError("a cache in 8 bits cannot be compressed further: give int8 or every, not both")
        return self


class GeneratorSettings(_Section):
    """What the generator is given, and when it answers."""

    # distilled: of each passage the sentences that bear on the question; passages: the whole text where it fits
    context: Literal["distilled", "passages"] = "distilled"
    context_tokens: int = Field(1536, ge=128)  # budget of the packed evidence
    max_passages: int = Field(8, ge=1)
    # False: where nothing is sure the embedded reader's likeliest answer is given, however unsure, as a partial one
    abstain: bool = True
    kv: KVSettings = KVSettings()


class LimitSettings(_Section):
    """Hard limits of a run. None: the effort preset's."""

    max_rounds: int | None = Field(None, ge=0, le=50)  # rounds after round 0
    token_budget: int | None = Field(None, ge=1)  # prompt and completion tokens of the whole run
    deadline: float | None = Field(None, gt=0)  # seconds


class EffortPreset(_Section):
    """What the one dial sets."""

    max_rounds: int
    token_budget: int
    deadline: float
    threshold: float  # the judge's probability from which the evidence counts as complete
    abstain: float  # the probability below which no answer is tried


EFFORTS: dict[Effort, EffortPreset] = {
    "low": EffortPreset(max_rounds=1, token_budget=6_000, deadline=60, threshold=0.4, abstain=0.1),
    "medium": EffortPreset(max_rounds=3, token_budget=16_000, deadline=180, threshold=0.5, abstain=0.1),
    "high": EffortPreset(max_rounds=5, token_budget=48_000, deadline=600, threshold=0.7, abstain=0.1),
}


class Settings(BaseSettings):
    """The whole tree. ``Settings.load`` is the way in: it turns validation errors into one line."""

    model_config = SettingsConfigDict(
        env_prefix="RAGPOOL_", env_nested_delimiter="__", extra="forbid", frozen=True
    )
    toml_path: ClassVar[Path | None] = None

    effort: Effort = "medium"
    method: Method = "ragpool"
    database_url: str | None = (
        None  # None: SQLite in the store folder; postgresql+psycopg://... for a shared one
    )
    models: ModelSettings = ModelSettings()
    index: IndexSettings = IndexSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    planner: PlannerSettings = PlannerSettings()
    judge: JudgeSettings = JudgeSettings()
    generator: GeneratorSettings = GeneratorSettings()
    limits: LimitSettings = LimitSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=cls.toml_path) if cls.toml_path else None
        return tuple(s for s in (init_settings, env_settings, toml) if s is not None)

    @classmethod
    def load(cls, config: Path | None = None, **overrides: Any) -> Settings:
        """Settings from ``config`` (default: ragpool.toml in the working folder, if there), environment, keywords.

        Raises SettingsError with the field's name and what it accepts.
        """
        path = config or Path(CONFIG_FILE)
        if config is not None and not path.is_file():
            raise SettingsError(f"{path}: no such settings file; 'ragpool config init' writes one")

        class _Sourced(cls):  # type: ignore[valid-type,misc]
            toml_path = path if path.is_file() else None

        try:
            loaded = _Sourced(**overrides)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "settings"
            raise SettingsError(f"setting {where}: {first['msg']} (see 'ragpool config show')") from error
        except ValueError as error:  # malformed TOML
            raise SettingsError(f"{path}: {error}") from error
        return cls.model_validate(loaded.model_dump())

    @property
    def preset(self) -> EffortPreset:
        """The effort preset with the explicit limits laid over it."""
        preset = EFFORTS[self.effort]
        chosen = {k: v for k, v in self.limits.model_dump().items() if v is not None}
        if self.judge.threshold is not None:
            chosen["threshold"] = self.judge.threshold
        return preset.model_copy(update=chosen)

    def own_weights(self, name: str) -> Path | None:
        """The user's folder for one trained part, where there is one; None means the shipped one."""
        folder = self.models.weights / name if self.models.weights is not None else None
        return folder if folder is not None and folder.is_dir() else None

    def config_hash(self) -> str:
        """12 hex digits over every setting that can change an answer (not devices, threads or secrets)."""
        tree = self.model_dump(mode="json")
        tree.pop("database_url")
        tree["models"] = {k: tree["models"][k] for k in ("chat", "embedder", "temperature", "weights")}
        tree["preset"] = self.preset.model_dump()
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]
