package block

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base32"
	"encoding/hex"
	"net/netip"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// LoadBalancer is the affinity of the blocks that Services' load balancer addresses come from (Calico's).
const LoadBalancer = "virtual:load-balancer"

// HostAffinity is the affinity that a node's blocks carry.
func HostAffinity(node string) string { return "host:" + node }

// Owner returns the node that owns b, or "".
func Owner(b *v3.IPAMBlock) string {
	if b.Spec.Affinity == nil || b.Spec.Deleted {
		return ""
	}
	node, ok := strings.CutPrefix(*b.Spec.Affinity, "host:")
	if !ok {
		return ""
	}
	return node
}

// Name is the object name of a block: its CIDR with '.', ':' and '/' written '-'.
func Name(cidr netip.Prefix) string {
	return strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(cidr.String())
}

// AffinityName is the object name of an owner's claim on a block; long ones are cut and made unique by a hash.
func AffinityName(owner string, cidr netip.Prefix) string {
	block := Name(cidr)
	if name := owner + "-" + block; len(name) < 253 {
		return name
	}
	sum := sha256.Sum256([]byte(owner + "+" + block))
	suffix := "-" + block + "-" + hex.EncodeToString(sum[:])[:11]
	return owner[:252-len(suffix)] + suffix // as Calico cuts it: other tools look for it by this name
}

const hostnameHash = "projectcalico.org/hostname-hash"

// AffinityLabels are what owner-scoped lookups of claims select by (Calico's names). affinity is a block's, such as
// host:node1.
func AffinityLabels(affinity string, family6 bool) map[string]string {
	kind, owner, _ := strings.Cut(affinity, ":")
	version := "4"
	if family6 {
		version = "6"
	}
	return map[string]string{
		hostnameHash: hash(owner), "projectcalico.org/affinity-type": kind, "projectcalico.org/ip-version": version,
	}
}

// AffinitySelector selects a node's claims by their labels.
func AffinitySelector(node string) string { return hostnameHash + "=" + hash(node) }

// NoAffinitySelector selects the claims that older Calico made: they have no labels.
const NoAffinitySelector = "!" + hostnameHash

func hash(owner string) string {
	sum := sha3.Sum256([]byte(owner))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
}
