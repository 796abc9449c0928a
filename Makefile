# `make demo` runs the main job, `make test` the whole test suite; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENES := data/scenes
# Folder of real panoramas for the backgrounds of half of the demo's scenes: make demo BACKGROUNDS=DIR
BACKGROUNDS ?=

.PHONY: demo test lint clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,logs,dev]'
	touch $@

demo: $(VENV)/.installed
	date +%s > $(VENV)/.demo-started
	$(BIN)/panovlm backbones efficientnet-lite0 scene-lm
	$(BIN)/panovlm scenes --out $(SCENES) --count 1500 --seed 1 $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))
	$(BIN)/panovlm train recipes/demo.yaml --resume
	$(BIN)/panovlm evaluate runs/demo --data $(SCENES)/test.jsonl --out runs/demo/report.json --since $$(cat $(VENV)/.demo-started)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test: lint
	$(BIN)/pytest -n 2

clean:
	rm -rf $(VENV) data runs
