"""The worker program: one node of slots that run the Claude CLI."""
