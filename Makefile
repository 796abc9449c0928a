# `make demo` runs the main job, `make test` the whole test suite; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENES := data/scenes
# Folder of real panoramas for the backgrounds of half of the demo's scenes: make demo BACKGROUNDS=DIR
BACKGROUNDS ?=

# Folder of panoramas for the benchmark: make benchmark PANORAMAS=DIR
PANORAMAS ?=
MEASURED := runs/benchmarks

.PHONY: demo test lint browser benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,fast,logs,serve,dev]'
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

# The page in headless Chromium (apt-get install chromium, or PANOVLM_CHROMIUM=PATH); screenshots in runs/browser.
browser: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[browser]'
	PANOVLM_SCREENSHOTS=$(CURDIR)/runs/browser $(BIN)/pytest tests/serving/browser

benchmark: $(VENV)/.installed
	@test -n "$(PANORAMAS)" || { echo "name a folder of panoramas: make benchmark PANORAMAS=DIR"; exit 2; }
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/projection.py --panoramas $(PANORAMAS) --mosaic --json $(MEASURED)/projection.json --docs docs/projection.md
	$(BIN)/python benchmarks/projection_cost.py --panoramas $(PANORAMAS) --json $(MEASURED)/projection_cost.json --docs docs/projection.md --plot docs/images/projection_cost.svg

clean:
	rm -rf $(VENV) data runs
