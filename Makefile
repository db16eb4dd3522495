# CI runs `make check` and nothing else (.ci/run). Tools are built from source into
# bin/ at the versions named here.
GOLANGCI_LINT_VERSION := v2.15.0
STATICCHECK_VERSION   := v0.8.2

# Debian packages that the tests need and the system may lack: none at present.
APT_PACKAGES :=

GO           ?= go
FUZZTIME     ?= 10s
TEST_TIMEOUT ?= 15m
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

BIN := bin
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
STATICCHECK   := $(BIN)/staticcheck-$(STATICCHECK_VERSION)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/havip-cluster, static, with its version
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/havip-cluster ./cmd/havip-cluster

.PHONY: demo
demo: build ## three nodes on this machine, a crash, the measured gap (root)
	$(BIN)/havip-cluster demo

.PHONY: setup
setup:
	@for p in $(APT_PACKAGES); do \
	  dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || { apt-get update -qq && apt-get install -qq -y $$missing >/dev/null; }

.PHONY: test
test: setup ## all tests with the race detector
	$(GO) test -race -timeout $(TEST_TIMEOUT) ./...

.PHONY: test-short
test-short: setup ## the tests that take seconds
	$(GO) test -short -timeout 5m ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) $(STATICCHECK) ## go vet, staticcheck, golangci-lint
	$(GO) vet ./...
	$(GO) vet -tags mutants ./...
	$(STATICCHECK) ./...
	$(GOLANGCI_LINT) run

$(GOLANGCI_LINT):
	GOBIN=$(abspath $(BIN)/tmp) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/tmp/golangci-lint $@ && rmdir $(BIN)/tmp

$(STATICCHECK):
	GOBIN=$(abspath $(BIN)/tmp) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	mv $(BIN)/tmp/staticcheck $@ && rmdir $(BIN)/tmp

.PHONY: tidy
tidy: ## go.mod, formatting and the rules of the house
	$(GO) mod tidy -diff
	@unformatted=$$(find . -name '*.go' -not -path './bin/*' -exec gofmt -l {} +); \
	  [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	$(GO) test -run Tidy ./jepsen

.PHONY: mutants
mutants: ## each safety rule broken on purpose must be noticed
	$(GO) test -tags mutants -timeout $(TEST_TIMEOUT) -run Mutant ./...

.PHONY: sim
sim: ## search for two owners in virtual time
	$(GO) test -timeout $(TEST_TIMEOUT) -run Search ./failover/lease/

.PHONY: jepsen-short
jepsen-short: ## real nodes in network namespaces, a few faults (root)
	$(GO) test -timeout $(TEST_TIMEOUT) -run Short ./jepsen/...

.PHONY: bench
bench: ## all benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "$$file $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
	  done; \
	done

.PHONY: check
check: tidy lint test sim jepsen-short ## what CI runs

.PHONY: clean
clean: ## remove what make built
	rm -rf $(BIN) coverage.*
	$(GO) clean -testcache
