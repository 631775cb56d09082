"""The stages' work: one record in, the next ones out. No Kafka and no HTTP client here."""
