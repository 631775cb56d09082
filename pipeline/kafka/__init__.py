"""Kafka: the only folder that imports its clients and Faust."""
