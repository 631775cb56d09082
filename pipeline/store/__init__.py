"""What is kept: sealed secrets, webhooks ready to be sent to."""
