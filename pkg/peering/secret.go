package peering

import (
	"fmt"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// password is what a reference leads to.
func (d *Directory) password(p *v3.BGPPassword) (string, error) {
	ref := p.SecretKeyRef
	if ref == nil || ref.Name == "" || ref.Key == "" {
		return "", fmt.Errorf("secretKeyRef names no key of a Secret: set its name and key")
	}
	data := d.secrets[ref.Name]
	if data == nil {
		return "", fmt.Errorf("there is no Secret %s, or the agent may not read it: create it in the agents' namespace, and a Role that lets them get, list and watch it", ref.Name)
	}
	value := string(data[ref.Key])
	if value == "" {
		return "", fmt.Errorf("the Secret %s has no key %s, or nothing in it: add it", ref.Name, ref.Key)
	}
	return value, nil
}
