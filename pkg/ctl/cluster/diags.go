package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/margay-net/margay/pkg/ctl/archive"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/kube"
)

// diagnosis collects.
type diagnosis struct {
	*connect.Cluster
	out     io.Writer
	version string
	since   time.Duration
	maxLogs int
	focus   []string
	dir     string
	tar     *archive.Archive
}

// maxLog is how much of each log is taken.
const maxLog = 16 << 20

// namespace is where our pods run.
const namespace = "kube-system"

// say tells how far it is; that nobody can be told is no reason not to go on.
func (d *diagnosis) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) }

// collect writes the archive. What cannot be had is noted inside, and stops nothing.
func (d *diagnosis) collect(ctx context.Context) (err error) {
	name := filepath.Join(d.dir, "margay-diagnostics-"+time.Now().UTC().Format("20060102_150405")+".tar.gz")
	d.say("==== Begin collecting diagnostics. ====")
	if d.tar, err = archive.Create(name); err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	d.say("Collecting resources...")
	d.resources(ctx)
	d.say("Collecting nodes, pods and events...")
	pods := d.core(ctx)
	d.say("Checking the cluster...")
	var text bytes.Buffer
	_, err = check(ctx, d.Cluster, &text, d.version, 3*time.Second)
	d.tar.Add("cluster/check.txt", append(text.Bytes(), archive.Note(err)...))
	d.say("Collecting logs...")
	d.logs(ctx, pods)
	if err := d.tar.Close(); err != nil {
		return fmt.Errorf("write archive %s: %w", name, err)
	}
	d.say("==== Diagnostic archive %s is ready. ====", name)
	return nil
}

// resources takes all of our kinds.
func (d *diagnosis) resources(ctx context.Context) {
	for _, k := range kube.Kinds {
		list, err := d.Kube.ListResources(ctx, k, "", metav1.ListOptions{})
		var b []byte
		if err == nil {
			for i := range list.Items {
				list.Items[i].SetManagedFields(nil)
			}
			b, err = yaml.Marshal(list.UnstructuredContent())
		}
		d.tar.Add("resources/"+k.Plural+".yaml", append(b, archive.Note(err)...))
	}
}

// core takes what of Kubernetes matters, and returns our own pods.
func (d *diagnosis) core(ctx context.Context) []corev1.Pod {
	add := func(name string, v any, err error) {
		var b []byte
		if err == nil {
			b, err = yaml.Marshal(v)
		}
		d.tar.Add("cluster/"+name+".yaml", append(b, archive.Note(err)...))
	}
	nodes, err := d.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	add("nodes", nodes, err)
	services, err := d.Core.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	add("services", services, err)
	own := metav1.ListOptions{LabelSelector: "k8s-app in (margay-node, margay-controller)"} // others' environment is none of ours
	sets, err := d.Core.AppsV1().DaemonSets(namespace).List(ctx, own)
	add("daemonsets", sets, err)
	deployments, err := d.Core.AppsV1().Deployments(namespace).List(ctx, own)
	add("deployments", deployments, err)
	config, err := d.Core.CoreV1().ConfigMaps(namespace).Get(ctx, "margay-config", metav1.GetOptions{})
	add("margay-config", config, err)
	events, err := d.Core.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	add("events", events, err)
	all, err := d.Core.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		add("pods", nil, err)
		return nil
	}
	var ours []corev1.Pod
	table := ""
	for i := range all.Items {
		p := &all.Items[i]
		table += fmt.Sprintf("%s/%s %s %s %v\n", p.Namespace, p.Name, p.Status.Phase, p.Spec.NodeName, p.Status.PodIPs)
		if app := p.Labels["k8s-app"]; app == agentLabel || app == "margay-controller" || app == "calico-kube-controllers" {
			ours = append(ours, *p)
		}
	}
	d.tar.Add("cluster/pods.txt", []byte(table))
	add("our-pods", ours, nil)
	return ours
}

// logs takes those of our pods, of the nodes that matter first.
func (d *diagnosis) logs(ctx context.Context, pods []corev1.Pod) {
	slices.SortStableFunc(pods, func(x, y corev1.Pod) int { return d.rank(&x) - d.rank(&y) })
	for i := range pods {
		if d.maxLogs > 0 && i >= d.maxLogs {
			d.say("Left out the logs of %d more pods: see --max-logs and --focus-nodes", len(pods)-i)
			return
		}
		for _, c := range pods[i].Spec.Containers {
			for _, previous := range []bool{false, true} {
				d.log(ctx, &pods[i], c.Name, previous)
			}
		}
	}
}

func (d *diagnosis) rank(p *corev1.Pod) int {
	if slices.Contains(d.focus, p.Spec.NodeName) {
		return 0
	}
	return 1
}

func (d *diagnosis) log(ctx context.Context, p *corev1.Pod, container string, previous bool) {
	limit := int64(maxLog)
	o := &corev1.PodLogOptions{Container: container, Previous: previous, LimitBytes: &limit}
	if d.since > 0 {
		seconds := int64(d.since.Seconds())
		o.SinceSeconds = &seconds
	}
	b, err := d.Core.CoreV1().Pods(p.Namespace).GetLogs(p.Name, o).DoRaw(ctx)
	if previous && err != nil {
		return // it has not been restarted
	}
	name := fmt.Sprintf("logs/%s_%s_%s", p.Spec.NodeName, p.Name, container)
	if previous {
		name += "_previous"
	}
	d.tar.Add(name+".log", append(b, archive.Note(err)...))
}
