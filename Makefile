# Every habit is one command. All that a machine needs is Python (3.11 or newer) with pip, and make.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= examples/studies/quickstart.yaml
PYTEST_ARGS ?=

# mkdocs-material prints a page-long notice about MkDocs 2 on every build; it is not about this site.
export NO_MKDOCS_2_WARNING := 1
export DISABLE_MKDOCS_2_WARNING := true

.DEFAULT_GOAL := help
COUNT ?= 1000
SEED ?= 0
VERSIONS ?= versions
.PHONY: help setup demo test fuzz lint format docs docs-release serve site-check bench bench-start bench-blocks bench-memory bench-gates bench-wrap bench-predict bench-train bench-study bench-verdicts bench-gpu test-gpu studies studies-small sweep toolchains quantized bench-switch bench-costs clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile

setup: $(VENV)/.installed ## make .venv and install attnzoo into it (the other commands do this first)

demo: setup ## run the quickstart ablation and say where its report is
	$(BIN)/attnzoo ablate $(STUDY)

test: setup ## run the tests and check coverage (make test PYTEST_ARGS='-k plan' runs some)
ifeq ($(PYTEST_ARGS),)
	$(BIN)/python -m pytest -n auto --dist worksteal \
	  --cov=attnzoo --cov-report=term:skip-covered --cov-fail-under=95
else
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)
endif

fuzz: setup ## try to break it: COUNT cases of every fuzzer, or of FUZZ, into docs/data/robustness.json
	$(BIN)/python tests/fuzz/run.py --count $(COUNT) --seed $(SEED) $(FUZZ)

lint: setup ## style, types, layers, spelling, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check attnzoo
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/vulture

format: setup ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Not --quiet: that also silences the warnings which --strict counts.
docs: setup ## build the site into site/
	$(BIN)/python -m mkdocs build --strict
	@echo "The site: site/index.html"

site-check: docs $(VENV)/.installed-site-check ## look at the built site in Chromium, as its readers do
	$(BIN)/python benchmarks/check_site.py

docs-release: docs ## keep the built site under its version in VERSIONS, beside those before
	$(BIN)/python docs/release.py $(VERSIONS)

serve: setup ## serve the site at http://127.0.0.1:8000 and rebuild it on every change
	$(BIN)/python -m mkdocs serve

bench: $(VENV)/.installed-bench ## run the benchmarks and print their figures
	@for script in benchmarks/bench_forward.py benchmarks/bench_local.py benchmarks/bench_wrap.py; do \
	  echo "== $$script"; $(BIN)/python $$script || exit 1; \
	done

bench-start: setup ## time how long the command line and `import attnzoo` take to start
	$(BIN)/python benchmarks/bench_start.py

bench-blocks: $(VENV)/.installed-bench ## time every block, beside timm's where timm has it
	$(BIN)/python benchmarks/bench_blocks.py

bench-memory: setup ## count what a training step keeps for its backward pass, by block
	$(BIN)/python benchmarks/bench_memory.py

bench-gates: $(VENV)/.installed-bench ## time attention alone beside another build, whose folder is BEFORE
	$(BIN)/python benchmarks/bench_gates.py $(BEFORE)

bench-wrap: setup ## time wrap beside another build, whose folder is BEFORE
	$(BIN)/python benchmarks/bench_wrap_builds.py $(BEFORE)

bench-predict: setup ## time predictions beside a bare loop over timm's loader
	$(BIN)/python benchmarks/bench_predict.py

bench-train: setup ## time the training loop beside one written by hand
	$(BIN)/python benchmarks/bench_train.py

bench-study: setup ## time what studies add to their runs, and kill one ten times (some minutes)
	$(BIN)/python benchmarks/bench_study.py

bench-verdicts: setup ## count in simulated studies how often verdicts err, and the seeds they take
	$(BIN)/python benchmarks/bench_verdicts.py

bench-gpu: setup ## time the fused kernels on a GPU and write docs/data/gpu.json
	$(BIN)/python benchmarks/bench_gpu.py

test-gpu: setup ## test the fused kernels, natively where there is a GPU
	$(BIN)/python -m pytest tests/kernels tests/surgery/test_fusing.py

studies: setup ## do the published studies anew, into runs/studies (hours; goes on where it was)
	@for study in docs/data/studies/*/results.csv; do \
	  name=$$(basename $$(dirname $$study)); \
	  $(BIN)/attnzoo ablate docs/data/studies/$$name/study.yaml --out runs/studies/$$name --workers 2 --threads 1 || exit 1; \
	done

studies-small: setup ## do a tenth of the published runs again, and compare them with what was published
	$(BIN)/python examples/again.py --share 0.1 --workers 2 --out runs/studies-small

sweep: setup ## try every policy on every network of torchvision and timm
	$(BIN)/attnzoo sweep --out docs/data/coverage.csv

toolchains: $(VENV)/.installed-tools ## take every block through OpenVINO, ExecuTorch and others into docs/data/toolchains.csv
	nice -n 10 $(BIN)/python benchmarks/toolchains.py --out docs/data/toolchains.csv

bench-costs: setup ## what attention costs four backbones at 224 pixels, into docs/data/costs.csv (some minutes)
	$(BIN)/python benchmarks/bench_costs.py

quantized: $(VENV)/.installed-tools ## quantise a ResNet-18 with attention, into docs/data/quantized.csv
	nice -n 10 $(BIN)/python benchmarks/quantized.py --out docs/data/quantized.csv

bench-switch: setup ## time what switching attention off and on takes
	$(BIN)/python benchmarks/bench_switch.py

clean: ## remove everything that the other commands made
	rm -rf $(VENV) site dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage

# Where the venv module lacks pip (Debian without python3-venv), the pip outside puts one inside.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "attnzoo needs Python 3.11 or newer; this is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; }

# uv installs in a third of pip's time, but reads none of pip's configuration (mirrors, proxies,
# certificates); where it can't reach the packages, pip does the work.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(call install,dev,docs)
	@touch $@

$(VENV)/.installed-bench: pyproject.toml $(VENV)/.installed
	$(call install,bench)
	@touch $@

$(VENV)/.installed-site-check: pyproject.toml $(VENV)/.installed
	$(call install,site-check)
	@touch $@

# LiteRT is left out: it asks for an older torch. The benchmark tells how it is run by itself.
$(VENV)/.installed-tools: pyproject.toml $(VENV)/.installed
	$(call install,openvino,executorch)
	$(call install,coreml,ncnn)
	@touch $@

# ultralytics asks for the OpenCV that draws windows, which needs a desktop's libraries; the one
# without windows does all that the tests need, and comes with the extra dev.
comma := ,
define install
	@echo "Installing attnzoo[$(1)$(if $(2),$(comma)$(2))] into $(VENV): about a minute ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo 'opencv-python; python_version < "3"' > $(VENV)/overrides.txt
	@$(BIN)/uv pip install --quiet --compile-bytecode --override $(VENV)/overrides.txt \
	  --python $(BIN)/python -e '.[$(1)$(if $(2),$(comma)$(2))]' \
	  || $(BIN)/python -m pip install --disable-pip-version-check -e '.[$(1)$(if $(2),$(comma)$(2))]'
	@$(BIN)/python -m compileall -q attnzoo
endef
