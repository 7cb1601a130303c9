"""Instruction vectors: extraction, exact causal effects, injection, artefacts."""
