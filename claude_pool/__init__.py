"""A distributed job queue whose workers run the Claude CLI."""
