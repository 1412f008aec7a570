-- Whether the settings that lie in the folder itself (hooks, permissions, MCP servers) count for runs.
ALTER TABLE workspace_grants ADD COLUMN trust_settings INTEGER NOT NULL DEFAULT 0;
