# `make repro` is the first thing to type; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help install repro check test style torture app pictures lint lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

install: $(VENV)/installed ## a virtual environment with the locked packages (about 6 GB, most of it CUDA)

$(VENV)/installed: requirements.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "uv==0.13.9"
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes --compile-bytecode -r requirements.txt
	touch $@

repro: install ## run the pipeline: only what changed since last time
	dvc repro

check: install style ## style, types and the fast tests: 2 minutes on 2 cores
	pytest -m "not slow"

test: install style ## everything that CI runs: style, types, all tests; 6 minutes on 2 cores
	pytest

style:
	ruff check . && ruff format --check .
	lint-imports --no-logo
	mypy

torture: install ## kill every stage at random moments, at least 70 times; half an hour
	python -m tests.support.torture --kills 70

app: install ## listen, classify, hear the mistakes, see the run: in a browser, on this machine alone
	python -m tools.app

pictures: install ## the current run as PNG files, in docs/pictures
	python -m tools.pictures

lint: install ## mend the style
	ruff check --fix . && ruff format .

lock: install ## make requirements.txt anew from requirements.in
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes -o requirements.txt requirements.in

clean: ## remove what the pipeline made; the cache of DVC stays
	rm -rf data models export .resume
