"""Published files: downloaded, verified, recognised."""
