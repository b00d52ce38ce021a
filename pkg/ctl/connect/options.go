package connect

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// DefaultConfigFile is read without being asked for when it is there.
const DefaultConfigFile = "/etc/calico/calicoctl.cfg"

// Options are what every command takes. The zero value and AddFlags, or New alone, hold the defaults.
type Options struct {
	// ConfigFile is the file of kind CalicoAPIConfig. Empty means DefaultConfigFile if it exists.
	ConfigFile string
	// Context is the kubeconfig's context. Empty means its current one.
	Context string
	// LogLevel is one of panic, fatal, error, warn, info and debug; of these the first two log nothing.
	LogLevel string
	// AllowVersionMismatch lets a command work on a cluster of another version.
	AllowVersionMismatch bool
	// Version is this program's, such as v1.2.3.
	Version string
}

// AddFlags adds the flags that set o, with calicoctl's names.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&o.ConfigFile, "config", "c", DefaultConfigFile, "Path of the file that says how to reach the cluster, in YAML or JSON.")
	fs.StringVar(&o.Context, "context", "", "Name of the kubeconfig's context to use.")
	fs.StringVarP(&o.LogLevel, "log-level", "l", "panic", "What to log to the standard error output: panic, fatal, error, warn, info or debug.")
	fs.BoolVar(&o.AllowVersionMismatch, "allow-version-mismatch", false, "Work on a cluster of another version, too.")
}

// levels of calicoctl's names. panic and fatal are above all that is logged here.
var levels = map[string]slog.Level{
	"": slog.LevelError + 8, "panic": slog.LevelError + 8, "fatal": slog.LevelError + 4,
	"error": slog.LevelError, "warn": slog.LevelWarn, "warning": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug, "trace": slog.LevelDebug,
}

// Log returns a logger of the level that was asked for. An unknown level is an error that lists the known ones.
func (o *Options) Log(w io.Writer) (*slog.Logger, error) {
	level, ok := levels[strings.ToLower(o.LogLevel)]
	if !ok {
		return nil, fmt.Errorf("unknown log level %q of --log-level: use panic, fatal, error, warn, info or debug", o.LogLevel)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), nil
}

// load returns the file's settings if there is a file, else the environment's.
func (o *Options) load() (settings, error) {
	name := o.ConfigFile
	if name == "" {
		name = DefaultConfigFile
	}
	text, err := os.ReadFile(name)
	switch {
	case err == nil:
		return fromFile(name, text)
	case name == DefaultConfigFile: // not there or not for us to read: as if there were none
		return fromEnviron(os.LookupEnv)
	default:
		return settings{}, fmt.Errorf("read configuration file: %w", err)
	}
}
