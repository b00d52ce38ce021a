package plugin

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// FuzzSandbox reads any configuration, arguments and container ID as a runtime may hand them over. What is refused is
// a CNI error with a code; what is taken makes a request that the agent can read, with a device name that the kernel takes.
func FuzzSandbox(f *testing.F) {
	const conf = `{"cniVersion":"1.1.0","name":"n","type":"margay"}`
	for _, args := range []string{
		"", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u;X=y",
		"K8S_POD_NAME=web", "IgnoreUnknown=maybe", "K8S_POD_NAMESPACE=a=b;K8S_POD_NAME=\x00", ";;=;",
	} {
		f.Add([]byte(conf), args, "c1")
	}
	for _, text := range []string{
		`{"socket":"/a","spool":"/b","ipam":{"type":"calico-ipam"},"feature_control":{"ip_addrs_no_ipam":true}}`, `{"ipam":{"type":"host-local"}}`,
		`{"socket":1}`, `{"Socket":"/a"}`, `{"prevResult":{},"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}`, `[]`, `null`, `{"ipam":null,"x":`,
	} {
		f.Add([]byte(text), "", "A_b")
	}
	f.Fuzz(func(t *testing.T, text []byte, args, id string) {
		s, err := newSandbox(&skel.CmdArgs{ContainerID: id, IfName: "eth0", Args: args, StdinData: text})
		if err != nil {
			var e *types.Error
			if !errors.As(err, &e) || e.Code == 0 || e.Msg == "" || s != nil {
				t.Fatalf("%#v, %v: want a CNI error", s, err)
			}
			return
		}
		if !filepath.IsAbs(s.conf.Socket) || !filepath.IsAbs(s.conf.Spool) || (s.pod == "") != (id == "") && s.pod == "" || s.namespace == "" {
			t.Fatalf("%+v of %+v", s, s.conf)
		}
		r := s.request(wire.OpAssign)
		if len(r.HostVeth) > maxIfName || len(r.HostVeth) <= len("cali") {
			t.Fatalf("host side %q", r.HostVeth)
		}
	})
}
