"""Workspaces: where runs work, and what becomes of what they leave.

A slot opens one with `Workspaces`; everybody who looks at, merges or clears away branches does so by `Repository`.
"""

from __future__ import annotations

from claude_pool.workspace.base import Workspace
from claude_pool.workspace.manager import Workspaces

__all__ = ["Workspace", "Workspaces"]
