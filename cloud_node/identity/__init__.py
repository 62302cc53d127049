"""Who may use a cloud node: the authority and what it issues, and how a node checks it (docs/security.md)."""
