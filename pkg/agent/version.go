package agent

// Version is the agent's version; the build sets it.
var Version = "v0.1.0-dev"
