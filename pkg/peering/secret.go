package peering

import (
	"fmt"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/bgp"
)

// password is what a reference leads to. With an error it is what it led to last, "" if it never did.
func (d *Directory) password(p *v3.BGPPassword) (string, error) {
	ref := p.SecretKeyRef
	if ref == nil || ref.Name == "" || ref.Key == "" {
		return "", fmt.Errorf("secretKeyRef names no key of a Secret: set its name and key")
	}
	r := reference{ref.Name, ref.Key}
	data := d.secrets[ref.Name]
	if data == nil {
		return d.lastPasswords[r], fmt.Errorf("there is no Secret %s, or the agent may not read it: create it in the agents' namespace, and a Role that lets them get, list and watch it", ref.Name)
	}
	value := string(data[ref.Key])
	if value == "" {
		return d.lastPasswords[r], fmt.Errorf("the Secret %s has no key %s, or nothing in it: add it", ref.Name, ref.Key)
	}
	d.lastPasswords[r] = value
	return value, nil
}

// usePassword gives a session the password of a field of a resource, if it is to have one; false: it must not come up, which
// without says.
func (b *builder) usePassword(out *bgp.Peer, from *v3.BGPPassword, kind, name, field, without string) bool {
	if from == nil {
		return true
	}
	var err error
	if out.Password, err = b.password(from); err != nil {
		if out.Password != "" {
			without = "its last password stays in use until the agent restarts"
		}
		b.fault(kind, name, "%s: %v; %s", field, err, without)
	}
	if len(out.Password) > maxPassword {
		b.fault(kind, name, "%s has %d bytes, of which TCP MD5 takes %d: use a shorter one", field, len(out.Password), maxPassword)
	}
	return out.Password != ""
}
