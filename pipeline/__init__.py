"""A webhook platform built as a Kafka stream-processing pipeline."""
