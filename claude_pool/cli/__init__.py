"""The command line `claude-pool`: arguments → Pool → text for people, or one JSON document for programs."""
