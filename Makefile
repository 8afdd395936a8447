# Two commands are enough on a fresh machine: `make serve` and `make test`.
# Needed: cargo, gcc/g++, make, python3 with pip. libtorch is brought once into the user's cache.

MODEL  ?= models/demo
LISTEN ?= 127.0.0.1:8080
DEVICE ?= auto
CARGO  ?= cargo
PYTHON ?= python3

# The same binary uses a GPU when it finds libtorch's CUDA libraries at start.
ifeq ($(CUDA),1)
GPU = LD_LIBRARY_PATH="$$($(PYTHON) scripts/libtorch.py --cuda --no-link)/lib"
endif

SERVER  := target/release/llm-cxr
TRAINER := target/release/llm-cxr-train
VENV    := .venv/.complete
CLIENT  := target/python/.complete

.DEFAULT_GOAL := help
.PHONY: help serve build test test-rust test-scripts fmt lint deny notices openapi bench fixtures parity libtorch clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make serve MODEL=$(MODEL) LISTEN=$(LISTEN) DEVICE=$(DEVICE)"

serve: build ## Build what is needed and serve MODEL on LISTEN (CUDA=1: on a GPU)
	@test -f "$(MODEL)/bundle.json" || { echo "$(MODEL) holds no bundle; llm-cxr convert makes one (see models/README.md)" >&2; exit 1; }
	$(GPU) $(SERVER) serve --model "$(MODEL)" --listen $(LISTEN) --device $(DEVICE)

# The repository brings a trained demo. Where it was removed, a small random model is made, which says that it is untrained.
ifeq ($(MODEL),models/demo)
serve: models/demo/bundle.json
endif
models/demo/bundle.json: | build
	$(TRAINER) init --out models/demo

build: libtorch ## Build target/release/llm-cxr and llm-cxr-train
	$(CARGO) build --release --locked --bins

test: test-rust test-scripts ## Run every test (offline once the dependencies are there)

test-scripts: $(CLIENT)
	$(PYTHON) -m unittest discover -s tests -p '*_test.py' -v

# The official OpenAI client, for its test alone; where it cannot be had the test says that it was skipped.
$(CLIENT): tests/fixtures/requirements-openai.txt
	-$(PYTHON) -m pip install --quiet --target target/python --upgrade --requirement $< && touch $@

test-rust: libtorch
	$(CARGO) test --release --locked

fmt: ## Format the code
	$(CARGO) fmt

lint: libtorch ## Check format and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

deny: ## Check licences, advisories and sources of the dependencies (cargo-deny)
	$(CARGO) deny check

notices: ## Write what the licences of the dependencies ask to be handed on, and a list of them (SBOM), to target/notices
	CARGO="$(CARGO)" $(PYTHON) scripts/notices.py --out target/notices $(if $(filter 1,$(CUDA)),--cuda)

openapi: build ## Write openapi.yaml from the code
	$(SERVER) openapi > openapi.yaml.partial && mv openapi.yaml.partial openapi.yaml

BENCH ?= --shape hidden=512,layers=8,heads=8,intermediate=2048,vocab=51305 --dtype f32 --prompt 340 --new 32 --batch 1,8
bench: build ## Measure prefill and decode (BENCH="--shape …")
	$(SERVER) bench $(BENCH)

fixtures: $(VENV) ## Make the parity fixtures again with transformers, taming-transformers and Pillow
	for script in tests/fixtures/*.py; do .venv/bin/python $$script || exit 1; done

parity: build $(VENV) ## Compare the running server with transformers, taming-transformers and Pillow on random checkpoints
	.venv/bin/python tests/reference/parity.py --cases 6

$(VENV): tests/fixtures/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --requirement tests/fixtures/requirements.txt
	.venv/bin/python -m pip install --no-deps taming-transformers==0.0.1 # its networks need none of its training stack
	touch $@

libtorch: ## Bring libtorch into the cache and point .libtorch at it (CUDA=1: the CUDA libraries too)
	@$(PYTHON) scripts/libtorch.py
	$(if $(filter 1,$(CUDA)),@$(PYTHON) scripts/libtorch.py --cuda --no-link)

clean: ## Remove what was built here (not the cache)
	rm -rf target .venv .libtorch
