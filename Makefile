# `make repro` is the first thing to type; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help install repro experiments check test style torture app pictures format lock clean

help: ## list the targets, and the tools
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14
	@echo; echo "Tools, after \`source .venv/bin/activate\`; each explains itself with --help:"
	@for file in $$(grep -l __main__ tools/*.py tools/app/*.py); do \
		module=$${file%.py}; module=$${module%/__main__}; \
		printf '  python -m %s\t%s\n' $${module//\//.} "$$(head -n 1 $$file | tr -d '\"')"; \
	done | expand -t 32

install: $(VENV)/installed ## create a virtual environment with the locked packages (about 6 GB, mostly CUDA)

$(VENV)/installed: requirements.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "uv==0.13.9"
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes --compile-bytecode -r requirements.txt
	@mkdir -p .dvc/tmp  # the scripts for the page of plots, which DVC would load from the network
	$(VENV)/bin/python -c "import vl_convert; print('(() => {', vl_convert.javascript_bundle(), '})()')" > .dvc/tmp/vega.js
	touch $@

repro: install ## run the pipeline: only what has changed since last time
	dvc repro
	@python -m tools.baseline

experiments: install ## list the experiments: what differs, accuracies, seconds
	@python -m tools.experiments

check: install style ## style, types and the fast tests: 4 minutes on 2 cores
	pytest -m "not slow"

test: install style ## style, types and all tests, as CI does: 20 to 30 minutes on 2 cores
	@echo "All tests: 20 to 30 minutes on 2 idle cores"
	pytest

style: install ## style, types and import rules
	ruff check . && ruff format --check .
	lint-imports --no-logo
	mypy

torture: install ## kill every stage at random moments, at least 70 times: half an hour
	python -m tests.support.torture --kills 70

app: install ## browse and correct the clips, review the mistakes, classify sounds: in a browser, on this machine only
	python -m tools.app

pictures: install ## draw the current run, and the app (with Chromium), as PNG files in docs/pictures
	python -m tools.pictures
	python -m tests.support.app_pictures

format: install ## fix the style
	ruff check --fix . && ruff format .

lock: install ## regenerate requirements.txt from requirements.in
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in

OUTPUTS := data/raw data/encoded data/clips.csv data/fingerprints.parquet models/backbone models/finetuned export .resume

clean: ## remove the pipeline's outputs, except where Git tracks files; DVC's cache stays
	@for each in $(OUTPUTS); do \
		if git ls-files --error-unmatch $$each > /dev/null 2>&1; then echo "kept $$each, which holds files that Git tracks"; \
		else rm -rf $$each; fi; done
