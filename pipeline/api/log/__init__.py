"""The delivery log over REST: what is known of events and deliveries, and sending them again."""
