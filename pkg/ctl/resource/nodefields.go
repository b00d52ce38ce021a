package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// FieldError says which field of an object is wrong.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// parseNode reads a Node that somebody wrote, and says of each field that is wrong what it wants.
func parseNode(o *unstructured.Unstructured) (*node, error) {
	var errs []error
	if as := value(o.Object, "spec.bgp.asNumber"); as != nil {
		if _, err := v3.ParseASNumber(fmt.Sprint(as)); err != nil {
			errs = append(errs, &FieldError{"spec.bgp.asNumber", err.Error()})
			o = o.DeepCopy()
			unstructured.RemoveNestedField(o.Object, "spec", "bgp", "asNumber")
		}
	}
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return nil, err
	}
	n := &node{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(n); err != nil {
		return nil, errors.Join(append(errs, decodeError(err, o))...)
	}
	if n.Spec.BGP == nil {
		n.Spec.BGP = &nodeBGP{}
	}
	if n.Spec.Wireguard == nil {
		n.Spec.Wireguard = &nodeWireguard{}
	}
	for _, a := range n.annotations() {
		if v := *a.at(n); v != "" && !a.valid(v) {
			errs = append(errs, &FieldError{a.field, fmt.Sprintf("%q: want %s", v, wants(a.field))})
		}
	}
	return n, errors.Join(errs...)
}

// wants tells the form of a field's value.
func wants(field string) string {
	switch {
	case strings.HasSuffix(field, "bgp.ipv4Address"):
		return "an IPv4 address with its network's length, such as 192.168.10.11/24"
	case strings.HasSuffix(field, "bgp.ipv6Address"):
		return "an IPv6 address with its network's length, such as fd00::11/64"
	case strings.Contains(field, "MAC"):
		return "a MAC address such as 66:55:44:33:22:11"
	case strings.HasSuffix(field, "ClusterID"):
		return "four numbers such as 224.0.0.1"
	case strings.Contains(field, "v6"), strings.Contains(field, "IPv6"):
		return "an IPv6 address"
	default:
		return "an IPv4 address"
	}
}

// decodeError finds the field that a JSON decoder stumbled over.
func decodeError(err error, o *unstructured.Unstructured) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return &FieldError{wrong.Field, fmt.Sprintf("is a %s: want a %s", wrong.Value, wrong.Type)}
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if field, e := strconv.Unquote(quoted); e == nil {
			return &FieldError{pathOf(o.Object, field), "unknown field: correct its name or leave it out; a Node has spec.bgp, spec.ipv4VXLANTunnelAddr and what get node -o yaml shows"}
		}
	}
	return &FieldError{"spec", err.Error()}
}

// pathOf finds where a field stands.
func pathOf(o map[string]any, field string) string {
	if _, ok := o[field]; ok {
		return field
	}
	for key, v := range o {
		switch v := v.(type) {
		case map[string]any:
			if p := pathOf(v, field); p != "" {
				return key + "." + p
			}
		case []any:
			for i, e := range v {
				if m, ok := e.(map[string]any); ok {
					if p := pathOf(m, field); p != "" {
						return fmt.Sprintf("%s[%d].%s", key, i, p)
					}
				}
			}
		}
	}
	return ""
}
