# run, test, bench, fuzz, lint. Everything stays on loopback; nothing is installed but by .ci/parts.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20s
TESTFLAGS ?=
SHELL = /bin/bash

# The parts unpacked by .ci/parts; the tests look here after the path.
export SEALPOST_PARTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sealpost-test
export PATH := $(PATH):$(SEALPOST_PARTS)/usr/sbin

.PHONY: run test bench fuzz lint parts build docs

run: ## a private internet on loopback: relay, signed DNS, receivers of every kind
	go run ./cmd/sealpost demo

build: ## one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o sealpost ./cmd/sealpost

parts: ## installs the programs and unpacks the daemons that the tests speak with (Debian)
	@.ci/parts

test: parts ## everything, with the race detector
	go vet ./...
	CGO_ENABLED=1 go test -race -timeout 14m $(TESTFLAGS) ./...
	go test -count=1 -run '^TestMemory$$' ./queue/pebblestore # the race detector would be what it measures

bench: parts ## against Debian's Postfix and Exim on this machine, then the Go benchmarks (rows: SEALPOST_BENCH=accept,one ...)
	go test -tags bench -run '^TestBench$$' -v -count 1 -timeout 60m ./cmd/sealpost
	go test -run '^$$' -bench . -benchtime 2s ./...

fuzz: ## every fuzzer for FUZZTIME
	.ci/fuzz $(FUZZTIME)

lint:
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'lint: gofmt would change these files' >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

docs: ## docs/configuration.md and docs/metrics.md from the tables in the code
	SEALPOST_UPDATE_DOCS=1 go test -count 1 -run '^TestReference$$' ./cmd/sealpost
