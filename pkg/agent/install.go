package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// conflist is what is written when no CNI_NETWORK_CONFIG is given.
const conflist = `{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "plugins": [
    {"type": "margay"},
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}
`

// Install says what is put on the node, and where.
type Install struct {
	BinDir      string // the node's /opt/cni/bin as the agent sees it; "": nothing is installed
	NetDir      string // the node's /etc/cni/net.d as the agent sees it
	ConfName    string
	Conf        string // the conflist; "": the built-in one
	Source      string // folder of the plugins to install
	Skip        []string
	KeepPresent bool // plugins other than margay that are there already are not replaced
}

// Binaries installs the plugins of the image on the node, each by rename, so that a plugin that runs is never torn.
func (i Install) Binaries() error {
	if i.BinDir == "" {
		return nil
	}
	files, err := os.ReadDir(i.Source)
	if err != nil {
		return fmt.Errorf("install plugins: %w", err)
	}
	for _, f := range files {
		to := filepath.Join(i.BinDir, f.Name())
		if slices.Contains(i.Skip, f.Name()) {
			continue
		}
		if _, err := os.Stat(to); err == nil && i.KeepPresent && f.Name() != "margay" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(i.Source, f.Name()))
		if err != nil {
			return fmt.Errorf("install plugin %s: %w", f.Name(), err)
		}
		if err := replaceFile(to, b, 0o755); err != nil {
			return fmt.Errorf("install plugin %s: %w", f.Name(), err)
		}
	}
	return nil
}

// Conflist writes the CNI configuration: from then on kubelet calls the plugin. mtu stands in for __CNI_MTU__.
func (i Install) Conflist(node string, mtu int) error {
	if i.NetDir == "" {
		return nil
	}
	text := i.Conf
	if text == "" {
		text = conflist
	}
	text = strings.NewReplacer("__CNI_MTU__", strconv.Itoa(mtu), "__KUBERNETES_NODE_NAME__", node, "__LOG_LEVEL__", "info").Replace(text)
	var list struct {
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return fmt.Errorf("CNI_NETWORK_CONFIG is not JSON: %w", err)
	}
	if list.Name == "" || len(list.Plugins) == 0 || list.Plugins[0]["type"] != "margay" {
		return errors.New("CNI_NETWORK_CONFIG: want a name, and a first plugin of type margay")
	}
	if err := replaceFile(filepath.Join(i.NetDir, i.ConfName), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	return nil
}

// replaceFile puts a file in place by rename, unless it is there just so.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return os.Chmod(path, mode)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

func (a *Agent) install() Install {
	c := a.config
	return Install{
		BinDir: c.BinDir, NetDir: c.NetDir, ConfName: c.ConfName, Conf: c.Conf, Source: c.PluginDir,
		Skip: strings.Split(c.SkipPlugins, ","), KeepPresent: c.KeepPlugins,
	}
}
