package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// conflist is what is written when the Config has none.
const conflist = `{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "plugins": [
    {"type": "margay"},
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}
`

// meta are types of plugins that call another configuration's plugins, ours: they are meant to be first.
var meta = []string{"multus", "multus-shim"}

// Conflist writes the CNI configuration, if it is not there just so, and sets foreign ones aside that would win over it.
// mtu stands in for __CNI_MTU__: call it again when that changes.
func (i *Installer) Conflist(node string, mtu int) error {
	if i.config.NetDir == "" {
		return nil
	}
	text, err := i.config.conflist(node, mtu)
	if err != nil {
		return err
	}
	i.work.Lock()
	defer i.work.Unlock()
	notices, err := i.putConflist(text)
	if err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	more, err := i.takeOver()
	i.note(stepConflist, append(notices, more...))
	return err
}

// conflist returns the text to write.
func (c Config) conflist(node string, mtu int) (string, error) {
	if filepath.Ext(c.ConfName) != ".conflist" || filepath.Base(c.ConfName) != c.ConfName {
		return "", fmt.Errorf("CNI_CONF_NAME: %q: want a file's name that ends in .conflist", c.ConfName)
	}
	text := c.Conf
	if text == "" {
		text = conflist
	}
	text = strings.NewReplacer("__CNI_MTU__", strconv.Itoa(mtu), "__KUBERNETES_NODE_NAME__", node, "__LOG_LEVEL__", "info").Replace(text)
	var list struct {
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return "", fmt.Errorf("CNI_NETWORK_CONFIG is not JSON: %w", err)
	}
	if list.Name == "" || len(list.Plugins) == 0 || list.Plugins[0]["type"] != plugin {
		return "", errors.New("CNI_NETWORK_CONFIG: want a name, and a first plugin of type margay")
	}
	return text, nil
}

// putConflist writes ours.
func (i *Installer) putConflist(text string) ([]Notice, error) {
	path := filepath.Join(i.config.NetDir, i.config.ConfName)
	there := exists(path)
	if typ, _ := firstPlugin(path); there && typ != plugin { // Calico's, when the name is 10-calico.conflist
		if st, err := os.Lstat(path); err == nil && st.IsDir() {
			return nil, fmt.Errorf("%s is a folder; remove it", path)
		}
		if err := setBeside(path); err != nil {
			return nil, fmt.Errorf("keep the one that is there: %w", err)
		}
		i.log.Info("CNI configuration of somebody else is kept beside ours", "file", i.config.ConfName, "as", i.config.ConfName+backupSuffix)
	}
	changed, err := putText(path, text, 0o600)
	if err != nil {
		return nil, err
	}
	again := i.wrote == text
	i.wrote = text
	switch {
	case changed && again:
		return []Notice{{ReasonCNIRewritten, fmt.Sprintf(
			"somebody removed or changed CNI configuration %s, and it was written again: remove the other network's installer", i.config.ConfName)}}, nil
	case changed:
		i.log.Info("CNI configuration written", "file", i.config.ConfName)
	}
	return nil, nil
}

// takeOver sets aside what would win over ours, and says what it leaves.
func (i *Installer) takeOver() (notices []Notice, err error) {
	names, err := confFiles(i.config.NetDir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		if name >= i.config.ConfName {
			continue
		}
		path := filepath.Join(i.config.NetDir, name)
		typ, err := firstPlugin(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !exists(path): // gone meanwhile
		case slices.Contains(i.config.TakeOver, typ) && typ != plugin:
			if exists(path + backupSuffix) {
				notices = append(notices, Notice{ReasonCNIRewritten, fmt.Sprintf(
					"CNI configuration %s (plugin %s) came back, and is set aside again: remove the network whose installer writes it", name, typ)})
			}
			if err := os.Rename(path, path+backupSuffix); err != nil {
				errs = append(errs, fmt.Errorf("set CNI configuration aside: %w", err))
				continue
			}
			i.log.Info("CNI configuration set aside", "file", name, "plugin", typ, "as", name+backupSuffix)
		case err != nil:
			notices = append(notices, Notice{ReasonForeignCNI, fmt.Sprintf(
				"CNI configuration %s sorts before %s and can't be read, so containerd loads none: remove it (%v)", name, i.config.ConfName, err)})
		case !slices.Contains(meta, typ):
			notices = append(notices, Notice{ReasonForeignCNI, fmt.Sprintf(
				"CNI configuration %s (plugin %s) sorts before %s, so new pods get that network: remove it and what writes it, or add %s to MARGAY_TAKE_OVER_CNI",
				name, typ, i.config.ConfName, typ)})
		}
	}
	return notices, errors.Join(errs...)
}

// confFiles lists what a runtime takes for CNI configurations, in its order.
func confFiles(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list CNI configurations: %w", err)
	}
	var names []string
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); !f.IsDir() && (ext == ".conf" || ext == ".conflist" || ext == ".json") {
			names = append(names, f.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// firstPlugin returns the type of the configuration's first plugin, which makes the interface. An error means that a
// runtime can't use the file either.
func firstPlugin(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var conf struct {
		Type    string `json:"type"`
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		return "", err
	}
	typ := conf.Type
	if filepath.Ext(path) == ".conflist" {
		typ = ""
		if len(conf.Plugins) > 0 {
			typ = conf.Plugins[0].Type
		}
	}
	if typ == "" {
		return "", errors.New("it names no plugin")
	}
	return typ, nil
}
