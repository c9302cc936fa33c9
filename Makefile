# The two commands of this project, and the end of the first. Everything else is a task of `cargo xtask`.
SHELL := /bin/bash
.DELETE_ON_ERROR:

# Builds outlive the work tree, so that a clean clone on the same machine is quick.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/monopod/target

.PHONY: demo demo-down test
demo: ## Runs the main job and shows it.
	scripts/bootstrap
	cargo xtask demo

demo-down: ## Ends the demo.
	cargo xtask demo-down

test: ## Passes every test, after installing what they need.
	scripts/bootstrap
	cargo xtask ci
