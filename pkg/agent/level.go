package agent

import "log/slog"

// level is the log level of a name of Calico's.
func level(name string) slog.Level {
	switch name {
	case "Trace", "Debug":
		return slog.LevelDebug
	case "Warning":
		return slog.LevelWarn
	case "Error", "Fatal":
		return slog.LevelError
	}
	return slog.LevelInfo
}
