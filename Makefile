# The commands of this project. `make help` lists them.

GOLANGCI_LINT_VERSION := v2.12.2
BENCHSTAT_VERSION     := v0.0.0-20260908200009-22c9c6c9d4da
GOBIN                 := $(CURDIR)/bin
GOLANGCI_LINT         := $(GOBIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
BENCHSTAT             := $(GOBIN)/benchstat

# The linter's cache names files by their place on disk, but is looked up by what is in them: shared between two
# clones it reports files of the other one, and where that is gone, every exception with a nolint as well.
export GOLANGCI_LINT_CACHE := $(GOBIN)/golangci-lint-cache

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: test
test: ## run the tests
	go test ./...

.PHONY: race
race: ## run the tests with the race detector, in random order
	go test -race -shuffle=on ./...

.PHONY: chaos
chaos: ## run 5,000 random schedules of faults on a stream
	go test ./stream -run 'TestChaos$$' -v -chaos.runs=5000 -chaos.first=$${FIRST:-1}

.PHONY: lint
lint: $(GOLANGCI_LINT) ## run the linters
	$(GOLANGCI_LINT) config verify
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	for store in internal/servertest nats postgres redis; do (cd checkpoint/$$store && $(GOLANGCI_LINT) run --allow-parallel-runners ./...) || exit 1; done
	cd bench/compare && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd examples/internal/interop && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd examples/etcdwatch && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd observe/otel && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd stream/streamtest/frames && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd observe/prometheus && $(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd observe/browsertest && $(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: example
example: ## run the examples, one again with a client that is killed half-way
	go run ./examples/streaming
	go run ./examples/streaming -restart
	go run ./examples/watch
	go run ./examples/tokens
	go run ./examples/upload
	go run ./examples/feed
	go run ./examples/link
	go run ./examples/overload
	cd examples/etcdwatch && go run .

.PHONY: check
check: race lint example ## everything that has to pass before a commit

.PHONY: bench
bench: $(BENCHSTAT) ## measure the cost of messages beside bare gRPC
	go test -run '^$$' -bench . -benchmem -count 10 ./bench | tee $(GOBIN)/bench.txt
	$(BENCHSTAT) -col /client $(GOBIN)/bench.txt

.PHONY: fuzz
fuzz: ## run each fuzz target for half a minute
	@go list ./... | while read -r pkg; do \
		go test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read -r target; do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime 30s $$pkg || exit 1; \
		done || exit 1; \
	done

.PHONY: generate
generate: ## make the generated code again
	go generate ./...

$(GOLANGCI_LINT):
	GOBIN=$(GOBIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(GOBIN)/golangci-lint $@

$(BENCHSTAT):
	GOBIN=$(GOBIN) go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)
