package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// maxSocketPath is the room for a Unix socket's path in linux/un.h, in bytes, without the final zero.
const maxSocketPath = 107

// config is the plugin's part of a CNI configuration, as it comes on the standard input.
type config struct {
	CNIVersion string          `json:"cniVersion"`
	Name       string          `json:"name"`   // of the network; the address handles' first part
	Type       string          `json:"type"`   // margay
	Socket     string          `json:"socket"` // the agent's, absolute; default wire.SocketPath
	Spool      string          `json:"spool"`  // directory, absolute; default wire.SpoolDir
	IPAM       *types.IPAM     `json:"ipam"`   // absent, empty or calico-ipam: addresses come from the agent
	Features   features        `json:"feature_control"`
	PrevResult json.RawMessage `json:"prevResult"`
	// Valid is GC's list; nil when the key is absent, null where it is an empty list.
	Valid json.RawMessage `json:"cni.dev/valid-attachments"`
}

// features are what pods may ask for only where the configuration says so (Calico's names).
type features struct {
	IPAddrsNoIPAM bool `json:"ip_addrs_no_ipam"`
	FloatingIPs   bool `json:"floating_ips"`
}

// ignoredKeys are accepted and have no effect: what runtimes add, and what a configuration written for Calico has. The
// agent decides on all of that by the resources in the datastore.
const ignoredKeys = `
	args capabilities runtimeConfig dns cni.dev/attachments
	alpha_features container_settings dataplane_options datastore_type desired_ip endpoint_status_dir
	etcd_authority etcd_ca_cert_file etcd_cert_file etcd_discovery_srv etcd_endpoints etcd_key_file etcd_scheme
	hostname include_default_routes kubernetes
	log_file_max_age log_file_max_count log_file_max_size log_file_path log_level
	mode mtu nodename nodename_file nodename_file_optional num_queues policy policy_setup_timeout_seconds
	require_mtu_file vxlan_mac_prefix vxlan_vni`

// ownKeys are the keys of config.
const ownKeys = `cniVersion name type socket spool ipam feature_control prevResult cni.dev/valid-attachments`

// parseConfig reads a configuration. Its errors are CNI errors that name the field and the way out.
func parseConfig(data []byte) (*config, error) {
	if err := knownKeys(data); err != nil {
		return nil, err
	}
	c := &config{Socket: wire.SocketPath, Spool: wire.SpoolDir}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, badJSON(err)
	}
	return c, c.validate()
}

func (c *config) validate() error {
	switch {
	case !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocketPath:
		return badConfig("socket", fmt.Sprintf("%q is not an absolute path of at most %d bytes", c.Socket, maxSocketPath),
			"give the path of the agent's socket, or remove the field for "+wire.SocketPath)
	case !filepath.IsAbs(c.Spool):
		return badConfig("spool", fmt.Sprintf("%q is not an absolute path", c.Spool),
			"give the path of a directory, or remove the field for "+wire.SpoolDir)
	case c.IPAM != nil && c.IPAM.Type != "" && c.IPAM.Type != "calico-ipam":
		return badConfig("ipam.type", fmt.Sprintf("%q cannot be used with margay, whose agent assigns the addresses", c.IPAM.Type),
			"remove the ipam section and describe the addresses in IPPool resources")
	}
	return nil
}

// knownKeys refuses a misspelt key, which would otherwise be a setting without effect.
func knownKeys(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return badJSON(err)
	}
	known := strings.Fields(ownKeys + ignoredKeys)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, key) && !strings.HasPrefix(key, "windows_") && !strings.HasPrefix(key, "cni.dev/") {
			return badConfig(key, "is no field of this plugin", "correct or remove it; margay's own fields are socket and spool")
		}
	}
	return nil
}

func badConfig(field, what, wayOut string) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network configuration: field %q: %s", field, what), wayOut)
}

func badJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return badConfig(wrong.Field, "is a "+wrong.Value+", want "+kindOf(wrong), "give it the right type or remove it")
	}
	return types.NewError(types.ErrDecodingFailure, "network configuration: "+err.Error(), "give one JSON object")
}

// kindOf names a Go type in JSON's words.
func kindOf(e *json.UnmarshalTypeError) string {
	switch k := e.Type.Kind().String(); k {
	case "struct", "map":
		return "an object"
	case "slice":
		return "an array"
	default:
		return "a " + k
	}
}
