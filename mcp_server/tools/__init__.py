"""The tools of the MCP server: one file per family, each tool a few lines around one method of the pool."""
