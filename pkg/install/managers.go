package install

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// devices are the names of our devices, as patterns.
var devices = []string{"cali*", "tunl*", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"}

const written = "# Written by margay-agent, which is the one to make and change these devices.\n"

// manager is a program that manages the node's devices, unless it is told not to.
type manager struct {
	name, reason string
	sign         string            // file or folder below /run that says that it runs, or has since the boot
	files        map[string]string // what is written below /run
	state        string            // folder below /run with a file per device, named by its index
	managed      []string          // lines of such a file when the device is in the manager's hands
	reload       call              // has it read its files again
	hint         string            // what a person types
}

// managers are those that are looked for.
func managers() []manager {
	nm := "interface-name:" + strings.Join(devices, ";interface-name:")
	return []manager{{
		name: "NetworkManager", reason: ReasonNetworkManager, sign: "NetworkManager",
		files: map[string]string{
			"NetworkManager/conf.d/margay.conf": written + "[keyfile]\nunmanaged-devices+=" + nm + "\n\n[device-margay]\nmatch-device=" + nm + "\nmanaged=0\n",
		},
		state: "NetworkManager/devices", managed: []string{"managed=true"},
		reload: call{"org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager.Reload", []any{uint32(1)}},
		hint:   "type on the node: nmcli general reload conf; and for each of them: nmcli device set NAME managed no",
	}, {
		name: "systemd-networkd", reason: ReasonNetworkd, sign: "systemd/netif/state",
		files: map[string]string{
			"systemd/network/00-margay.network":   written + "[Match]\nName=" + strings.Join(devices, " ") + "\n\n[Link]\nUnmanaged=yes\n",
			"systemd/networkd.conf.d/margay.conf": written + "# Its routes through other devices, and those without one, look foreign, too.\n[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n",
		},
		state: "systemd/netif/links", managed: []string{"ADMIN_STATE=configuring", "ADMIN_STATE=configured", "ADMIN_STATE=failed"},
		reload: call{"org.freedesktop.network1", "/org/freedesktop/network1", "org.freedesktop.network1.Manager.Reload", nil},
		hint:   "type on the node: networkctl reload; and see `networkctl list`",
	}}
}

// patience is how long a manager that has read its files may take to let go of devices.
const patience = 2 * time.Second

// Unmanage tells the network managers that run on the node to leave our devices alone. Call it before these are made. What
// fails is said in notices and in the log: pods get their network all the same.
func (i *Installer) Unmanage(ctx context.Context) {
	if i.config.RunDir == "" {
		return
	}
	i.work.Lock()
	defer i.work.Unlock()
	var notices []Notice
	for _, m := range managers() {
		if text := i.unmanage(ctx, m); text != "" && ctx.Err() == nil {
			notices = append(notices, Notice{m.reason, text})
		}
	}
	i.note(stepManagers, notices)
}

// unmanage does so for one manager, and returns what a person must know.
func (i *Installer) unmanage(ctx context.Context, m manager) string {
	run := i.config.RunDir
	if !exists(filepath.Join(run, m.sign)) {
		return ""
	}
	changed, err := m.write(run)
	if err != nil {
		return fmt.Sprintf("%s may take our devices, since the file that forbids it can't be written: %v", m.name, err)
	}
	i.reloaded[m.name] = i.reloaded[m.name] && !changed
	if changed {
		i.log.Info("network manager told to leave our devices alone", "manager", m.name)
	}
	taken, err := m.taken(run)
	if err != nil || !changed && len(taken) == 0 {
		return ""
	}
	if !i.reloaded[m.name] {
		err = reload(ctx, run, m.reload)
		i.reloaded[m.name] = err == nil
	} else {
		err = running(ctx, run, m.reload.dest)
	}
	if errors.Is(err, errNotRunning) {
		return "" // it reads its files when it starts; what it left in its state counts no more
	}
	for end := time.Now().Add(patience); err == nil && len(taken) > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(patience / 20)
		taken, _ = m.taken(run)
	}
	if len(taken) > 0 {
		// Not which: they come and go with pods, and each new text is an event.
		text := fmt.Sprintf("%s manages devices of ours and may break them; %s", m.name, m.hint)
		if err != nil {
			text += fmt.Sprintf(" (asked over D-Bus: %v)", err)
		}
		return text
	}
	i.tell(m, err)
	return ""
}

// tell logs that a manager could not be asked, or could again, when that changes. It hurts nobody so far.
func (i *Installer) tell(m manager, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != i.failed[m.name] && text != "" {
		i.log.Info("network manager reads what it must leave alone when it starts next; it can't be asked to now", "manager", m.name, "err", text)
	}
	i.failed[m.name] = text
}

// write writes the manager's files that are not there just so.
func (m manager) write(run string) (changed bool, err error) {
	for name, text := range m.files {
		file := filepath.Join(run, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return changed, err
		}
		wrote, err := putText(file, text, 0o644)
		if err != nil {
			return changed, err
		}
		changed = changed || wrote
	}
	return changed, nil
}

// taken returns those of our devices that the manager has in its hands, by its own word.
func (m manager) taken(run string) (names []string, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, dev := range all {
		if !ours(dev.Name) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(run, m.state, strconv.Itoa(dev.Index)))
		if err != nil {
			continue // it has not seen the device yet
		}
		for line := range strings.Lines(string(b)) {
			if slices.Contains(m.managed, strings.TrimSpace(line)) {
				names = append(names, dev.Name)
			}
		}
	}
	return names, nil
}

// ours says whether a device of that name is one of ours.
func ours(name string) bool {
	return slices.ContainsFunc(devices, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}
