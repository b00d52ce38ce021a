package install

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
)

// Config says what is put on the node, and where the agent sees the node's folders.
type Config struct {
	BinDir      string   // the node's /opt/cni/bin; "": no plugins are installed
	NetDir      string   // the node's /etc/cni/net.d; "": no conflist is written
	RunDir      string   // the node's /run; "": network managers are left alone
	Record      string   // file that tells which plugins are ours
	ConfName    string   // name of the conflist
	Conf        string   // the conflist's text; "": the built-in one
	Source      string   // folder of the plugins to install
	Skip        []string // plugins that are not installed
	KeepPresent bool     // plugins other than margay that are there already are not replaced
	TakeOver    []string // types of plugins whose configurations are set aside when they sort before ours
}

// Defaults of the Config's fields that have the same value on every node.
const (
	DefaultConfName = "10-margay.conflist"
	DefaultRecord   = "/var/lib/margay/plugins.sha256"
	DefaultTakeOver = "calico,flannel"
)

// plugin is the type of our plugin, and its file's name.
const plugin = "margay"

// backupSuffix ends the names of foreign files that made room for ours. No runtime reads files that end so.
const backupSuffix = ".margay-backup"

// Reasons of notices: CamelCase words for an event's reason or a metric's label.
const (
	ReasonForeignCNI     = "ForeignCNI"     // another CNI's configuration wins over ours
	ReasonCNIRewritten   = "CNIRewritten"   // another installer still writes its configuration or removes ours
	ReasonNetworkManager = "NetworkManager" // NetworkManager has our devices in hand
	ReasonNetworkd       = "Networkd"       // systemd-networkd has
)

// Notice is something on the node that a person has to look at. Text says what is the matter and what to do.
type Notice struct{ Reason, Text string }

// Installer puts on the node what its Config says. All methods may be called from any goroutine.
type Installer struct {
	config Config
	log    *slog.Logger

	work     sync.Mutex          // one step at a time
	sums     map[string]string   // of the image's plugins, which do not change
	seen     map[string]stamp    // the node's plugins, when they were last looked at
	wrote    string              // the conflist that was written last
	reloaded map[string]bool     // managers that have read their files since we wrote them
	failed   map[string]string   // managers' failures to, as they were logged
	mu       sync.Mutex          // of notices
	notices  map[string][]Notice // by step
}

// New returns an Installer that has done nothing yet.
func New(c Config, log *slog.Logger) *Installer {
	return &Installer{
		config: c, log: log, sums: map[string]string{}, seen: map[string]stamp{},
		reloaded: map[string]bool{}, failed: map[string]string{}, notices: map[string][]Notice{},
	}
}

// Audit looks after what others may have changed since: managers, plugins, conflist. It is cheap, and for once a minute.
// Not before Plugins and Conflist have succeeded once.
func (i *Installer) Audit(ctx context.Context, node string, mtu int) error {
	i.Unmanage(ctx)
	return errors.Join(i.mendPlugins(), i.Conflist(node, mtu))
}

// Notices returns what a person has to look at, as of each step's last run.
func (i *Installer) Notices() []Notice {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []Notice
	for _, step := range []string{stepManagers, stepConflist} {
		all = append(all, i.notices[step]...)
	}
	return all
}

// Steps that notices come from.
const (
	stepManagers = "managers"
	stepConflist = "conflist"
)

// note replaces a step's notices and logs those that are new.
func (i *Installer) note(step string, now []Notice) {
	i.mu.Lock()
	old := i.notices[step]
	i.notices[step] = now
	i.mu.Unlock()
	for _, n := range now {
		if !slices.Contains(old, n) {
			i.log.Warn("node needs a look", "reason", n.Reason, "what", n.Text)
		}
	}
	for _, n := range old {
		if !slices.Contains(now, n) {
			i.log.Info("node needs that look no more", "reason", n.Reason, "what", n.Text)
		}
	}
}
