package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/margay-net/margay/pkg/model"
)

// endpoints are computed of pods that are on a node and have a network of their own.
type endpoints struct {
	computed
	client corev1client.CoreV1Interface
}

func openEndpoints(c Cluster, k *Kind) Store {
	return endpoints{computed{k, "a pod"}, c.Core.CoreV1()}
}

func (s endpoints) List(ctx context.Context, namespace string) (*unstructured.UnstructuredList, error) {
	pods, err := s.client.Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, s.kind.explain(err, namespace, "", "list pods for")
	}
	var items []unstructured.Unstructured
	for i := range pods.Items {
		if p := &pods.Items[i]; !p.Spec.HostNetwork && p.Spec.NodeName != "" {
			items = append(items, *endpoint(p))
		}
	}
	return s.kind.newList(pods.ResourceVersion, items), nil
}

func (s endpoints) Get(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	pods, err := s.List(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pods.Items[i].GetName() == name {
			return &pods.Items[i], nil
		}
	}
	return nil, s.kind.explain(errors.NewNotFound(resourceOf(s.kind), name), namespace, name, "get")
}

// endpoint makes one of a pod. Its name is NODE-k8s-POD-eth0, with each '-' of the node and the pod written twice.
func endpoint(p *corev1.Pod) *unstructured.Unstructured {
	double := strings.NewReplacer("-", "--")
	networks := podNetworks(p)
	spec := map[string]any{
		"orchestrator": "k8s", "node": p.Spec.NodeName, "pod": p.Name, "endpoint": "eth0",
		"interfaceName": model.HostVeth(p.Namespace, p.Name),
	}
	profiles := []any{"kns." + p.Namespace}
	labels := merged(p.Labels, map[string]string{"projectcalico.org/namespace": p.Namespace, "projectcalico.org/orchestrator": "k8s"})
	if account := p.Spec.ServiceAccountName; account != "" {
		profiles = append(profiles, "ksa."+p.Namespace+"."+account)
		spec["serviceAccountName"] = account
		if len(account) < 63 {
			labels["projectcalico.org/serviceaccount"] = account
		}
	}
	spec["profiles"] = profiles
	if id := p.Annotations["cni.projectcalico.org/containerID"]; id != "" {
		spec["containerID"] = id
	}
	if len(networks) > 0 {
		spec["ipNetworks"] = networks
	}
	if pairs := floating(p, networks); len(pairs) > 0 {
		spec["ipNATs"] = pairs
	}
	if ports := namedPorts(p); len(ports) > 0 {
		spec["ports"] = ports
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": APIVersion, "kind": "WorkloadEndpoint", "metadata": map[string]any{}, "spec": spec}}
	o.SetName(double.Replace(p.Spec.NodeName) + "-k8s-" + double.Replace(p.Name) + "-eth0")
	o.SetNamespace(p.Namespace)
	o.SetUID(p.UID)
	o.SetResourceVersion(p.ResourceVersion)
	o.SetCreationTimestamp(p.CreationTimestamp)
	o.SetGenerateName(p.GenerateName)
	o.SetLabels(labels)
	return o
}

// podNetworks are the pod's addresses as networks of one address, none when it has ended.
func podNetworks(p *corev1.Pod) []any {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	if ip, ok := p.Annotations["cni.projectcalico.org/podIP"]; ok && ip == "" && p.DeletionTimestamp != nil {
		return nil // its network is gone already
	}
	var texts []string
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && p.Status.PodIP != "" {
		texts = []string{p.Status.PodIP}
	}
	if len(texts) == 0 {
		texts = strings.Split(p.Annotations["cni.projectcalico.org/podIPs"], ",")
	}
	if len(texts) == 1 && texts[0] == "" {
		texts[0] = p.Annotations["cni.projectcalico.org/podIP"]
	}
	var out []any
	for _, text := range texts {
		text, _, _ = strings.Cut(text, "/")
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
	return out
}

// floating pairs the addresses of the pod's annotation with its own of the same family.
func floating(p *corev1.Pod, networks []any) []any {
	var outside []string
	if json.Unmarshal([]byte(p.Annotations["cni.projectcalico.org/floatingIPs"]), &outside) != nil {
		return nil
	}
	var out []any
	for _, ip := range outside {
		for _, n := range networks {
			inside, _, _ := strings.Cut(fmt.Sprint(n), "/")
			if strings.Contains(ip, ":") == strings.Contains(inside, ":") {
				out = append(out, map[string]any{"internalIP": inside, "externalIP": ip})
				break
			}
		}
	}
	return out
}

func namedPorts(p *corev1.Pod) []any {
	var out []any
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			for _, port := range c.Ports {
				if port.ContainerPort == 0 || port.HostPort == 0 && port.Name == "" {
					continue
				}
				protocol := string(port.Protocol)
				if protocol == "" {
					protocol = "TCP"
				}
				out = append(out, map[string]any{
					"name": port.Name, "protocol": protocol, "port": int64(port.ContainerPort), "hostPort": int64(port.HostPort), "hostIP": port.HostIP,
				})
			}
		}
	}
	return out
}
