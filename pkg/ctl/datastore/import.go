package datastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/ctl/resource"
	"github.com/margay-net/margay/pkg/kube"
)

// content is a file, taken apart.
type content struct {
	resources []*unstructured.Unstructured
	nodes     int // that the file has; their agents write what is on them themselves
	info      v3.ClusterInformation
	blocks    []*v3.IPAMBlock
	handles   []*v3.IPAMHandle
	claims    []*v3.BlockAffinity
	config    *v3.IPAMConfiguration
}

func importFile(ctx context.Context, c *connect.Cluster, out io.Writer, name string) error {
	if name == "" {
		return errors.New("no file is named: use -f FILE, or -f - for standard input")
	}
	if name == "-" {
		name = os.Stdin.Name()
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read file to import: %w", err)
	}
	file, err := parse(text)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := checkEmpty(ctx, c); err != nil {
		return fmt.Errorf("import into a datastore that is not empty: %w", err)
	}
	err = file.write(ctx, c, true)
	if _, ipamErr := file.writeIPAM(ctx, c, true); err != nil || ipamErr != nil {
		return fmt.Errorf("check what is to be imported; nothing was written: %w", errors.Join(err, ipamErr))
	}
	if err := setReady(ctx, c.Kube, false); err != nil {
		return fmt.Errorf("lock the datastore: %w", err)
	}
	if err := checkEmpty(ctx, c); err != nil {
		return fmt.Errorf("import into a datastore that was written to in this moment; it is locked now: margayctl datastore migrate unlock ends that: %w", err)
	}
	const again = "delete all resources of projectcalico.org and import again"
	if err := file.write(ctx, c, false); err != nil {
		return fmt.Errorf("import; a part is written: %s: %w", again, err)
	}
	if err := file.describe(ctx, c); err != nil {
		return fmt.Errorf("import the cluster's description; a part is written: %s: %w", again, err)
	}
	n, err := file.writeIPAM(ctx, c, false)
	if err != nil {
		return fmt.Errorf("import addresses; %d objects are written: %s: %w", n, again, err)
	}
	said := fmt.Sprintf("Successfully applied %d resource(s)\nImporting IPAM resources\nSuccessfully applied %d IPAM resource(s)\n", len(file.resources), n)
	if file.nodes > 0 {
		said = fmt.Sprintf("Left out %d 'Node' resource(s): each node's agent writes its own\n", file.nodes) + said
	}
	_, err = io.WriteString(out, said+"Datastore information successfully imported. It is locked: margayctl datastore migrate unlock ends that.\n")
	return err
}

// parse takes a file apart and checks what can be checked without a cluster.
func parse(text []byte) (*content, error) {
	parts := bytes.Split(text, []byte(partEnd))
	if len(parts) != 3 {
		return nil, fmt.Errorf("it has %d parts with === between them, want 3: it is no file of \"datastore migrate export\"", len(parts))
	}
	f := &content{}
	for i, doc := range bytes.Split(parts[0], []byte(listEnd)) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		if err := f.add(doc); err != nil {
			return nil, fmt.Errorf("list %d of the first part: %w", i+1, err)
		}
	}
	if err := json.Unmarshal(parts[1], &f.info); err != nil {
		return nil, fmt.Errorf("second part, ClusterInformation: %w", err)
	}
	var a ipamPart
	if err := json.Unmarshal(parts[2], &a); err != nil {
		return nil, fmt.Errorf("third part, addresses: %w", err)
	}
	return f, f.addAddresses(&a)
}

func (f *content) add(doc []byte) error {
	var list unstructured.UnstructuredList
	var raw map[string]any
	if err := yaml.Unmarshal(doc, &raw); err != nil {
		return err
	}
	list.SetUnstructuredContent(raw)
	for i := range list.Items {
		o := &list.Items[i]
		clean(o)
		if o.GetKind() == "Node" {
			f.nodes++
			continue
		}
		f.resources = append(f.resources, o)
	}
	return nil
}

func (f *content) addAddresses(a *ipamPart) error {
	var errs []error
	for _, p := range a.Affinities {
		o, err := affinityObject(p)
		f.claims, errs = append(f.claims, o), append(errs, err)
	}
	for _, p := range a.Blocks {
		o, err := blockObject(p)
		f.blocks, errs = append(f.blocks, o), append(errs, err)
	}
	for _, p := range a.Handles {
		o, err := handleObject(p)
		f.handles, errs = append(f.handles, o), append(errs, err)
	}
	if a.Config != nil {
		f.config = configObject(*a.Config)
	}
	return errors.Join(errs...)
}

// builtin are objects that are made without anybody's doing, and so do not make a datastore one that is in use.
var builtin = map[string][]string{
	"Tier":                         {"default", "adminnetworkpolicy", "baselineadminnetworkpolicy", "kube-admin", "kube-baseline"},
	"KubeControllersConfiguration": {"default"},
}

// checkEmpty refuses a datastore that has resources.
func checkEmpty(ctx context.Context, c *connect.Cluster) error {
	for _, name := range append(slices.Clone(kinds), "IPAMBlock", "IPAMHandle", "BlockAffinity", "IPAMConfiguration") {
		if name == "Node" {
			continue
		}
		kind, _ := kube.KindOf(name) // all are known
		list, err := c.Kube.ListResources(ctx, kind, "", metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list %s: %w", kind.Plural, err)
		}
		for i := range list.Items {
			if found := list.Items[i].GetName(); !slices.Contains(builtin[name], found) {
				return fmt.Errorf("found existing Calico %s resource %s: delete what is there, or import into a fresh cluster", name, found)
			}
		}
	}
	return nil
}

// write creates the resources, or asks the API server whether it would.
func (f *content) write(ctx context.Context, c *connect.Cluster, dryRun bool) error {
	var errs []error
	for _, o := range f.resources {
		kind, err := resource.Of(o.GetAPIVersion(), o.GetKind())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		store := kind.Open(c)
		_, err = store.Create(ctx, o, dryRun)
		if slices.Contains(builtin[o.GetKind()], o.GetName()) && err != nil && alreadyExists(err) {
			var have *unstructured.Unstructured
			if have, err = store.Get(ctx, "", o.GetName()); err == nil {
				o.SetResourceVersion(have.GetResourceVersion())
				_, err = store.Update(ctx, o, dryRun)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func alreadyExists(err error) bool {
	return apierrors.IsAlreadyExists(err) || strings.Contains(err.Error(), "already exists")
}

// describe writes what the file says of its cluster.
func (f *content) describe(ctx context.Context, c *connect.Cluster) error {
	return changeInformation(ctx, c.Kube, func(spec map[string]any) {
		if f.info.Spec.ClusterGUID != "" {
			spec["clusterGUID"] = f.info.Spec.ClusterGUID
		}
		// What the agents here have written of themselves counts more than what others did.
		for field, value := range map[string]string{"clusterType": f.info.Spec.ClusterType, "calicoVersion": f.info.Spec.CalicoVersion} {
			if spec[field] == nil && value != "" {
				spec[field] = value
			}
		}
	})
}

// writeIPAM creates what is about addresses, claims first, as agents do, and says how many objects it wrote; or it asks the
// API server whether it would.
func (f *content) writeIPAM(ctx context.Context, c *connect.Cluster, dryRun bool) (n int, err error) {
	var list []kube.Object
	if f.config != nil {
		list = append(list, f.config)
	}
	for _, o := range f.claims {
		list = append(list, o)
	}
	for _, o := range f.blocks {
		list = append(list, o)
	}
	for _, o := range f.handles {
		list = append(list, o)
	}
	for _, o := range list {
		name := o.GetObjectKind().GroupVersionKind().Kind
		kind, _ := kube.KindOf(name) // all are known
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err == nil {
			_, err = c.Kube.CreateResource(ctx, kind, &unstructured.Unstructured{Object: fields}, dryRun)
		}
		if err != nil {
			return n, fmt.Errorf("create %s %s: %w", name, o.GetName(), err)
		}
		n++
	}
	return n, nil
}
