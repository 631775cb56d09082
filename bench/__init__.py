"""Benchmarks of the real thing: real Kafka, real roles, real HTTP on loopback. `sh scripts/bench CASE -o json`."""
