"""The counter's desks: each adds to `claude_pool.Pool` the verbs of one subject."""
