# `make demo` runs the main job, `make test` the whole test suite; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
SCENES := data/scenes
# Folder of real panoramas for the backgrounds of half of the demo's scenes: make demo BACKGROUNDS=DIR
BACKGROUNDS ?=

# Folder of panoramas for the benchmark: make benchmark PANORAMAS=DIR
PANORAMAS ?=
MEASURED := runs/benchmarks

PANNELLUM := 2.5.7
PAGE := panovlm/serving/page

.PHONY: demo demo-real test gpu-check lint docs browser viewer benchmark ray vllm clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,fast,logs,serve,docs,dev]'
	touch $@

demo: $(VENV)/.installed
	date +%s > $(VENV)/.demo-started
	$(BIN)/panovlm backbones efficientnet-lite0 scene-lm
	$(BIN)/panovlm scenes --out $(SCENES) --count 2500 --seed 1 $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))
	$(BIN)/panovlm train recipes/demo.yaml --resume
	$(BIN)/panovlm evaluate runs/demo --data $(SCENES)/test.jsonl --out runs/demo/report.json --since $$(cat $(VENV)/.demo-started)

# The same with a real language model, SmolLM2-135M, and more scenes: about an hour on two cores with fast bf16.
demo-real: $(VENV)/.installed
	$(BIN)/panovlm backbones efficientnet-lite0 smollm2-135m-instruct
	$(BIN)/panovlm scenes --out $(SCENES)-5000 --count 5000 --seed 1
	$(BIN)/panovlm train recipes/smollm2.yaml --resume
	$(BIN)/panovlm evaluate runs/smollm2 --data $(SCENES)-5000/test.jsonl --out runs/smollm2/report.json --limit 1000

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/deptry --no-ansi panovlm

# The site, in site/index.html; any warning fails.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test: lint docs
	$(BIN)/pytest -n 2

# What needs a GPU: the tests for one, and steps of the sizes of recipes/siglip2-qwen3.yaml beside a plain trainer.
gpu-check: $(VENV)/.installed
	$(BIN)/python -c 'import torch, sys; sys.exit(None if torch.cuda.is_available() else "gpu-check: found no GPU")'
	$(BIN)/pytest tests/end_to_end/test_gpu.py
	$(BIN)/python benchmarks/training.py --size siglip2-qwen3 --steps 10 --json $(MEASURED)/gpu.json

# Pages in headless Chromium (apt-get install chromium, or PANOVLM_CHROMIUM=PATH); screenshots in runs/browser.
browser: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[browser]'
	PANOVLM_SCREENSHOTS=$(CURDIR)/runs/browser $(BIN)/pytest tests/serving/browser tests/evaluation/pages/test_pages_in_browser.py

# The page's viewer as npm has it, with its licence; tests hold its digest.
viewer:
	mkdir -p $(MEASURED)
	cd $(MEASURED) && npm pack --silent pannellum@$(PANNELLUM) && tar xf pannellum-$(PANNELLUM).tgz
	cp $(MEASURED)/package/build/pannellum.js $(MEASURED)/package/build/pannellum.css $(PAGE)
	cp $(MEASURED)/package/COPYING $(PAGE)/pannellum.LICENSE

benchmark: $(VENV)/.installed
	@test -n "$(PANORAMAS)" || { echo "name a folder of panoramas: make benchmark PANORAMAS=DIR"; exit 2; }
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/projection.py --panoramas $(PANORAMAS) --mosaic --json $(MEASURED)/projection.json --docs docs/lab/projection.md
	$(BIN)/python benchmarks/projection_cost.py --panoramas $(PANORAMAS) --json $(MEASURED)/projection_cost.json --docs docs/lab/projection.md --plot docs/images/projection_cost.svg

# Bulk inference in two workers.
ray: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[ray]'
	$(BIN)/pytest tests/inference/test_ray_data.py

$(VLLM)/.installed: pyproject.toml vllm-requirements.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --no-deps -r vllm-requirements.txt
	$(VLLM)/bin/pip install --quiet --no-deps -e .
	touch $@

# A tiny model in vLLM on the CPU beside the same in transformers; compiling kernels for it would take longer than it runs.
vllm: $(VLLM)/.installed
	HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 TORCH_COMPILE_DISABLE=1 $(VLLM)/bin/pytest tests/contracts/test_vllm_parity.py

clean:
	rm -rf $(VENV) $(VLLM) data runs site
