package e2e

import (
	"context"
	"strings"
	"testing"
)

// TestBadResources applies what must be refused; kubectl's message must name the field.
func TestBadResources(t *testing.T) {
	c := ready(t)
	const head = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: e2e-bad}\n"
	for _, r := range []struct{ name, spec, field string }{
		{"both modes", "spec: {cidr: 10.99.0.0/16, vxlanMode: Always, ipipMode: Always}", "spec.vxlanMode"},
		{"host bits", "spec: {cidr: 10.99.0.1/16}", "spec.cidr"},
		{"unknown mode", "spec: {cidr: 10.99.0.0/16, vxlanMode: none}", "spec.vxlanMode"},
		{"no network", "spec: {cidr: pods}", "spec.cidr"},
		{"unknown field", "spec: {cidr: 10.99.0.0/16, natOutgoin: true}", "spec.natOutgoin"},
	} {
		t.Run(r.name, func(t *testing.T) { c.refused(t, head+r.spec, r.field) })
	}
	// A pool that is there, without a node that would use it.
	const good = head + "spec: {cidr: 10.99.0.0/16, blockSize: 26, disabled: true}"
	defer c.ctl(context.Background(), "delete", "ippool", "e2e-bad", "--ignore-not-found")
	if _, err := c.apply(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	t.Run("changed cidr", func(t *testing.T) {
		c.refused(t, strings.Replace(good, "10.99", "10.98", 1), "spec.cidr")
	})
	t.Run("changed blockSize", func(t *testing.T) {
		c.refused(t, strings.Replace(good, "blockSize: 26", "blockSize: 27", 1), "spec.blockSize")
	})
	c.mustCtl(t, "delete", "ippool", "e2e-bad")
}

func (c *cluster) refused(t *testing.T, yaml, field string) {
	t.Helper()
	_, err := c.apply(t.Context(), yaml)
	if err == nil {
		t.Fatal("accepted")
	}
	text := err.Error()
	t.Log(text[strings.LastIndex(text, "exit status"):])
	if !strings.Contains(text, field) {
		t.Errorf("the message does not name %s", field)
	}
}
