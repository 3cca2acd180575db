# make demo         the main job, on a real cluster
# make demo-transfer  money leaves, once, and what was recorded of it is proved offline
# make clean-demo   takes it down
# make test         everything that must hold
# make bench        the figures in e2e/BENCHMARKS.md
# make soak         floods the evaluator, fuzzes what verify reads
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(COUNTERSIGN_CACHE),$(HOME)/.cache/countersign)
export PATH := $(CACHE)/bin:$(CACHE)/tools/bin:$(PATH)

.PHONY: help
help: ## Says what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: demo
demo: ## Brings up a cluster, installs Countersign, watches a wallet on a chain (15 min cold, 2 min warm).
	@e2e/demo.sh

.PHONY: demo-transfer
demo-transfer: ## Pays once on a real chain, signed by two people; anchors and verifies the record (15 min cold, 2 min warm).
	@e2e/demo-transfer.sh

.PHONY: clean-demo
clean-demo: ## Takes the demo's cluster down and removes its state.
	@e2e/cluster/down.sh

.PHONY: test
test: ## Everything that must hold (45 min cold, 30 min with compiled dependencies).
	@e2e/test.sh

.PHONY: soak
soak: ## Kills PostgreSQL at every statement, runs Plans both ways, floods the evaluator, fuzzes what verify reads (45 min).
	@e2e/soak.sh

.PHONY: bench
bench: ## Measures on the local cluster and prints the table of e2e/BENCHMARKS.md.
	@e2e/bench.sh

.PHONY: crds
crds: ## Writes the CustomResourceDefinitions into their chart.
	cargo run -q --bin crdgen

.PHONY: events
events: ## Writes the schema of the log's events, if it only adds to what there was.
	COUNTERSIGN_WRITE_EVENTS=1 cargo test -q --test events

.PHONY: simulation-schema
simulation-schema: ## Writes the schema of what simulations answer.
	COUNTERSIGN_WRITE_SIMULATION=1 cargo test -q -p countersign-core --test simulate committed

.PHONY: queries
queries: ## Checks every SQL query against a scratch database and remembers what it learnt.
	e2e/cluster/postgres.sh start
	DATABASE_URL=$$(e2e/cluster/postgres.sh local-url) operator/store/prepare.sh
