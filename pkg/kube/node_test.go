package kube

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/pkg/model"
)

// testAnnotate writes what a node is, as others read it, and takes back what it has no more.
func testAnnotate(t *testing.T, c *Client) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if _, err := create(t.Context(), c.core, "nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "annotated"}}); err != nil {
		t.Fatal(err)
	}
	full := model.Node{
		Name: "annotated", Addr4: netip.MustParsePrefix("192.168.10.11/24"), Addr6: netip.MustParsePrefix("2001:db8::11/64"),
		VXLANAddr4: netip.MustParseAddr("172.20.0.1"), VXLANAddr6: netip.MustParseAddr("fd00:20::1"), IPIPAddr4: netip.MustParseAddr("172.20.0.2"),
		VXLANMAC4: model.TunnelMAC("annotated", false), VXLANMAC6: model.TunnelMAC("annotated", true),
	}
	plain := full
	plain.VXLANAddr4, plain.VXLANAddr6, plain.IPIPAddr4 = netip.Addr{}, netip.Addr{}, netip.Addr{}
	for _, want := range []model.Node{full, plain, full} {
		if err := c.Annotate(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		n, err := get[corev1.Node](t.Context(), c.core, "nodes", "annotated")
		if err != nil {
			t.Fatal(err)
		}
		have := readNode(n, log)
		have.UID = ""
		if have != want {
			t.Errorf("have %+v, want %+v", have, want)
		}
		if text, there := n.Annotations["projectcalico.org/IPv4IPIPTunnelAddr"]; there != want.IPIPAddr4.IsValid() || there && text != "172.20.0.2" {
			t.Errorf("annotation %q, %v", text, there)
		}
	}
	if n := readNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annIPIPAddr4: "tunl0"}}}, log); n.IPIPAddr4.IsValid() {
		t.Errorf("a malformed address counts as %s", n.IPIPAddr4)
	}
}
