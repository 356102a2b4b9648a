#!/bin/sh
# Compiles a crate of the workspace with its mutants: cargo calls this in place of rustc (RUSTC_WORKSPACE_WRAPPER), so what
# others have written is built once for both.
exec "$@" --cfg terrace_mutants
