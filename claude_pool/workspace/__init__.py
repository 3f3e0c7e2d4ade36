"""Workspaces: where runs work, and what becomes of what they leave.

A slot opens one with `Workspaces`; everybody who looks at, merges or clears away branches does so by `Repository`.
"""

from __future__ import annotations

from claude_pool.workspace.base import Workspace
from claude_pool.workspace.manager import Workspaces
from claude_pool.workspace.merge import MergeRequest
from claude_pool.workspace.repository import Repository

__all__ = ["MergeRequest", "Repository", "Workspace", "Workspaces"]
