# make without a target lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# 2.13.0 resolves to a CPU build where one is offered and to the CUDA build elsewhere.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help install demo test check fix soak bench bench-rows bench-gpu embedded-model picture clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(VENV)/installed ## make a virtual environment in .venv with all that is needed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -e ".[dev]"
	@touch $@

demo: install ## fine-tune a small model on example reviews and score a file with it
	@rm -rf demo && mkdir demo
	$(BIN)/batchsent finetune -o demo/model --train examples/reviews-train.csv --base-model embedded
	$(BIN)/batchsent batch examples/reviews.csv -o demo/scored.csv --model demo/model
	@echo && echo "The first scored rows (demo/scored.csv):" && head -n 6 demo/scored.csv
	@echo && echo "The summary (demo/scored.csv.summary.json):" && head -n 40 demo/scored.csv.summary.json

test: install ## run the tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

check: install ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: install ## format, mend what lint can mend, write the types of the Python functions anew
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.stub

soak: install ## the long fault tests: random SIGKILL, fail points, fuzzing
	$(BIN)/python -m pytest -q -m soak tests

bench: install ## reviews a second beside the alternatives, on this CPU
	$(BIN)/pip install --quiet -e ".[bench]"
	$(BIN)/python examples/bench.py $(ARGS)

bench-rows: install ## what everything but the model costs: seconds of each stage, peak memory (see ARGS=--help)
	$(BIN)/python examples/bench_rows.py $(ARGS)

bench-gpu: install ## what a user gets on a GPU: the whole command on 500,000 reviews, beside pipeline and the device's limit
	$(BIN)/python examples/bench_gpu.py --device cuda $(ARGS)

# A folder with IMDB as train.parquet (text, label), unsupervised.parquet (text) and test-5k.parquet (text, label).
DATA ?= data
# Training makes tensors of many sizes: glibc keeps the memory, oneDNN the kernels of every length.
embedded-model: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
embedded-model: export MALLOC_MMAP_THRESHOLD_ = 1000000000
embedded-model: export MALLOC_TRIM_THRESHOLD_ = 2000000000
embedded-model: export MALLOC_TOP_PAD_ = 100000000
embedded-model: export ONEDNN_PRIMITIVE_CACHE_CAPACITY = 20000
embedded-model: install ## make the model that comes with the package anew: hours (DATA=folder of IMDB, see examples/embedded_model.py)
	$(BIN)/python examples/embedded_model.py \
	    --train $(DATA)/train.parquet --unlabelled $(DATA)/unsupervised.parquet --test $(DATA)/test-5k.parquet $(ARGS)

picture: install ## draw examples/summary.svg, the terminal that the README shows
	$(BIN)/python examples/picture.py

clean: ## remove what make made
	rm -rf $(VENV) demo build dist *.egg-info
