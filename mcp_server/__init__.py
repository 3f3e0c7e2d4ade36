"""The MCP program: the pool as tools for a coordinator."""
