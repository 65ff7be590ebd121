# tritonlab: `make help` lists what there is.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& command -v $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup course lab site test lint fix notebooks lock bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv, install the course and, without a TARGET, the local engine
	@$(if $(filter docker http%,$(TARGET)),,$(BIN)/tritonlab engine install)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "tritonlab needs Python 3.11, 3.12 or 3.13 with its venv module."; \
	  echo "What to do: install one (on Debian or Ubuntu: apt install python3-venv), or name it: make setup PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Installing the course's packages into $(VENV): about 0.2 GB to download, a minute or two."
	@"$(PYTHON)" -m venv $(VENV)
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	  $(BIN)/python -m pip install --disable-pip-version-check $$quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

course: setup  ## execute every notebook against a real server, or NOTEBOOKS="00 03"; in containers with TARGET=docker
	@$(BIN)/tritonlab run $(if $(NOTEBOOKS),--whole $(NOTEBOOKS)) $(if $(TARGET),-p target $(TARGET))

lab: setup  ## open the course in JupyterLab
	@$(if $(TARGET),TRITONLAB_TARGET=$(TARGET)) $(BIN)/tritonlab lab

site: $(STAMP)  ## build the course as a site to read and to search, in site/_build/html
	@$(BIN)/python site/build.py

test: setup lint  ## run every test, the cheap ones first
	$(BIN)/python -m pytest tests/unit --numprocesses 2
	$(BIN)/python -m pytest tests/integration --numprocesses 2 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest tests/integration -m alone
	$(BIN)/python -m pytest tests/docker
	$(BIN)/python -m pytest tests/notebooks --numprocesses 2
	$(BIN)/python -m pytest tests/browser --numprocesses 2

lint: $(STAMP)  ## format, lint, types, spelling, notebook format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tests/notebook_format.py notebooks/*.ipynb workshop/*.ipynb

fix: $(STAMP)  ## mend what can be mended mechanically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tests/notebook_format.py --fix notebooks/*.ipynb workshop/*.ipynb

notebooks: setup  ## execute the notebooks in place, to renew their stored outputs
	cd notebooks && TRITONLAB_LEARNER=you ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace *.ipynb
	$(BIN)/python tests/notebook_format.py --fix notebooks/*.ipynb workshop/*.ipynb

lock: $(STAMP)  ## renew requirements.lock and the locks of engine and AIPerf (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header \
	  --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  --override tritonlab/engine/engine.override --output-file tritonlab/engine/engine.lock tritonlab/engine/engine.in
	sed -i -E "/sys_platform == '(win32|emscripten)'|== 's390x'$$/d" tritonlab/engine/engine.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  --output-file tritonlab/bench/aiperf.lock tritonlab/bench/aiperf.in

bench: setup  ## run every benchmark; each prints its ratios
	for name in startup course serving logs; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## remove what was built and run here; the engine stays (tritonlab engine remove)
	rm -rf $(VENV) runs notebooks/workspace site/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
