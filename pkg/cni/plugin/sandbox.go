package plugin

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// sandbox is one interface of one container, as the runtime names it, and the configuration that applies.
type sandbox struct {
	conf        *config
	containerID string
	ifName      string // CNI_IFNAME, such as eth0
	netns       string // CNI_NETNS, a path; empty when the runtime has given the namespace up
	namespace   string
	pod         string
	podUID      string
}

// podArgs is CNI_ARGS. The field names are the keys.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE          types.UnmarshallableString
	K8S_POD_NAME               types.UnmarshallableString
	K8S_POD_UID                types.UnmarshallableString
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString
}

// cniNamespace stands for a Kubernetes namespace where the runtime names no pod, as cnitool.
const cniNamespace = "cni"

// maxPodName is the longest name of a pod, in bytes.
const maxPodName = 253

func newSandbox(args *skel.CmdArgs) (*sandbox, error) {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return nil, err
	}
	var pod podArgs
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "read CNI_ARGS: "+err.Error(),
			"give KEY=VALUE pairs parted by semicolons, and IgnoreUnknown=1 to pass others than K8S_POD_*")
	}
	s := &sandbox{
		conf:        conf,
		containerID: args.ContainerID,
		ifName:      args.IfName,
		netns:       args.Netns,
		namespace:   string(pod.K8S_POD_NAMESPACE),
		pod:         string(pod.K8S_POD_NAME),
		podUID:      string(pod.K8S_POD_UID),
	}
	if (s.namespace == "") != (s.pod == "") {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "read CNI_ARGS: one of K8S_POD_NAMESPACE and K8S_POD_NAME is missing",
			"give both, or neither for a container without a pod")
	}
	if s.pod == "" {
		s.namespace, s.pod = cniNamespace, podName(s.containerID)
	}
	return s, nil
}

// podName makes a pod's name of a container ID: the ID itself where it is a name, and else its lowercase form with a hash
// of the ID behind it, so that two IDs don't share a name.
func podName(containerID string) string {
	name := strings.ToLower(strings.ReplaceAll(containerID, "_", "-"))
	if name == containerID && len(name) <= maxPodName {
		return name
	}
	sum := fnv.New64a()
	sum.Write([]byte(containerID))
	return fmt.Sprintf("%s-%016x", name[:min(len(name), maxPodName-17)], sum.Sum64())
}

// request makes a request about this sandbox.
func (s *sandbox) request(op wire.Op) *wire.Request {
	r := &wire.Request{
		Op:          op,
		Network:     s.conf.Name,
		ContainerID: s.containerID,
		IfName:      s.ifName,
		Namespace:   s.namespace,
		Pod:         s.pod,
		PodUID:      s.podUID,
		HostVeth:    model.InterfaceVeth(s.namespace, s.pod, s.ifName),
	}
	if f := s.conf.Features; op == wire.OpAssign && f != (features{}) {
		r.Features = &wire.Features{IPAddrsNoIPAM: f.IPAddrsNoIPAM, FloatingIPs: f.FloatingIPs}
	}
	return r
}

// String is the pod and the interface, for errors.
func (s *sandbox) String() string { return s.namespace + "/" + s.pod + " " + s.ifName }
